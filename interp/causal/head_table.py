"""Turns per-prompt measures of heads into one row per head, with intervals and ranks."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from interp.attention.heads import FLOOR
from interp.metrics import CAUSAL_METRICS, Head
from interp.stats import interval, resample


def head_table(tables: dict[str, pd.DataFrame | None], seed: int = 0) -> pd.DataFrame:
    """Summarise measures, complete or still growing, as one row per head.

    Args:
        tables: measure -> its tidy table, or None if there is nothing yet.
        seed: of the bootstrap.

    Returns:
        `layer, head` and for each metric its mean over prompts, `NAME_low` and `NAME_high` (95 %
        percentile bootstrap over prompts, 2,000 resamples; NaN on one prompt) and `NAME_rank` (1
        is the most important). What is not measured yet is NaN.
    """
    grids: dict[str, pd.DataFrame] = {}
    for table in tables.values():
        if table is not None and len(table):
            heads = table[table["head"] >= 0]
            for metric, part in heads.groupby("metric"):
                grids[metric] = part.pivot(
                    index="prompt", columns=["layer", "head"], values="value"
                )
    columns = {}
    if "l_original" in grids and "l_suspect" in grids:
        columns |= _delta_rel(grids["l_original"], grids["l_suspect"], seed)
    for name, metric in CAUSAL_METRICS.items():
        if name in grids:
            mean, drawn = _resampled(grids[name], seed)
            columns |= _interval(name, mean, drawn, len(grids[name]), metric.falling)
    if not columns:
        return pd.DataFrame({"layer": [], "head": []}, dtype=int)
    return pd.DataFrame(columns).rename_axis(["layer", "head"]).sort_index().reset_index()


def from_study(ranking: pd.DataFrame) -> pd.DataFrame:
    """Δ_rel of a study as a table of heads, for pairs without a causal run.

    Args:
        ranking: the table `Study.ranking` of `interp.attention.study`.

    Returns:
        `delta_rel` and its rank, as in `head_table`, without an interval; NaN below the floor.
    """
    kept = ranking["kept"].astype(bool)
    table = ranking[["layer", "head"]].assign(
        delta_rel=ranking["delta_rel"].where(kept),
        delta_rel_low=np.nan,
        delta_rel_high=np.nan,
        delta_rel_rank=ranking["rank"].where(kept).astype("Int64"),
    )
    return table.sort_values(["layer", "head"], ignore_index=True)


def measured(heads: pd.DataFrame) -> list[str]:
    """The metrics with values in a table of heads, in the order of `CAUSAL_METRICS`."""
    return [name for name in CAUSAL_METRICS if name in heads and heads[name].notna().any()]


def ranked(heads: pd.DataFrame, metric: str) -> list[tuple[int, int]]:
    """(layer, head), the most important first; heads without a rank last."""
    order = heads.sort_values(f"{metric}_rank", na_position="last", kind="stable")
    return [(int(layer), int(head)) for layer, head in order[["layer", "head"]].to_numpy()]


def head_card(heads: pd.DataFrame, layer: int, head: int) -> pd.DataFrame:
    """Every metric of one head, with its rank among all heads.

    Args:
        heads: a table from `head_table` or `from_study`.
        layer: layer of the head, from 0.
        head: number of the head in its layer, from 0.

    Returns:
        One row per metric: `metric, value, low, high, rank, of`; `of` counts the heads that have a
        rank; `rank` is missing if the head has none.
    """
    row = heads[(heads["layer"] == layer) & (heads["head"] == head)].iloc[0]
    rows = [
        (name, row[name], row[f"{name}_low"], row[f"{name}_high"], row[f"{name}_rank"], of)
        for name in measured(heads)
        for of in [int(heads[f"{name}_rank"].notna().sum())]
    ]
    table = pd.DataFrame(rows, columns=["metric", "value", "low", "high", "rank", "of"])
    return table.astype({"rank": "Int64"})


def head_in_runs(
    tables: Mapping[str, pd.DataFrame], head: Head, shape: tuple[int, int]
) -> pd.DataFrame:
    """One head's metrics in several runs.

    Args:
        tables: run -> its table from `head_table` or `from_study`.
        head: (layer, head).
        shape: layers, heads in a layer. A run of a model of another shape is left out.

    Returns:
        `run` and the columns of `head_card`, one row per run and metric.
    """
    parts = []
    for name, table in tables.items():
        if shape_of(table) == shape and len(card := head_card(table, *head)):
            parts.append(card.assign(run=name))
    columns = ["run", "metric", "value", "low", "high", "rank", "of"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def shape_of(heads: pd.DataFrame) -> tuple[int, int]:
    """Layers and heads in a layer of a table that holds every head once; (0, 0) for any other."""
    if heads.empty:
        return 0, 0
    shape = int(heads["layer"].max()) + 1, int(heads["head"].max()) + 1
    whole = len(heads) == shape[0] * shape[1] and not heads.duplicated(["layer", "head"]).any()
    return shape if whole else (0, 0)


SMALL = 0.05
"""Share of the largest effect of any head, below which an effect is called small."""


def no_effect(heads: pd.DataFrame, layer: int, head: int) -> str | None:
    """A sentence on why a head is no proven cause; None if it is one or was not measured.

    Args:
        heads: a table from `head_table` with ablations of single heads.
        layer: layer of the head, from 0.
        head: number of the head in its layer, from 0.
    """
    name = "ablation_loss"
    if name not in heads or not heads[name].notna().any():
        return None
    row = heads[(heads["layer"] == layer) & (heads["head"] == head)].iloc[0]
    value, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
    largest = heads.loc[heads[name].abs().idxmax()]
    unclear, small = low <= 0 <= high, abs(value) < SMALL * abs(float(largest[name]))
    if not (unclear or small):
        return None
    spread = f" ({low:.4f} to {high:.4f})" if np.isfinite(low) else ""
    what = "cannot be told from nothing" if unclear else "is small"
    return (
        f"Taken out alone it changes the target's loss by {value:.4f} nats per token{spread}, "
        f"which {what}: rank {int(row[f'{name}_rank'])} of {int(heads[name].notna().sum())}. The "
        f"largest effect is L{int(largest['layer'])}H{int(largest['head'])}'s, {largest[name]:.4f}."
    )


def _delta_rel(original: pd.DataFrame, suspect: pd.DataFrame, seed: int) -> dict[str, pd.Series]:
    """Δ_rel as defined in `attention.heads.delta_rel`; heads below its floor are NaN."""
    before, drawn_before = _resampled(original, seed)
    after, drawn_after = _resampled(suspect, seed)
    kept = (before > FLOOR).to_numpy()
    mean = ((before - after) / before).where(kept)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.where(kept, (drawn_before - drawn_after) / drawn_before, np.nan)
    return _interval("delta_rel", mean, drawn, len(original), False)


def _resampled(grid: pd.DataFrame, seed: int) -> tuple[pd.Series, np.ndarray]:
    """Mean of each head over its measured prompts, and over bootstrap resamples of them."""
    values, n = grid.to_numpy(np.float64), len(grid)
    draws = resample(n, seed)
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        drawn = (draws @ np.where(there, values, 0.0)) / (draws @ there)
    return grid.mean(), drawn


def _interval(
    name: str, mean: pd.Series, drawn: np.ndarray, n_prompts: int, falling: bool
) -> dict[str, pd.Series]:
    low, high = np.full((2, len(mean)), np.nan)
    if n_prompts > 1:
        # A head below the floor has no value in any resample.
        known = np.isfinite(drawn).all(0)
        low[known], high[known] = interval(drawn[:, known])
    rank = mean.rank(ascending=falling, method="first").astype("Int64")
    parts = {"": mean, "_low": low, "_high": high, "_rank": rank}
    return {name + suffix: pd.Series(part, mean.index) for suffix, part in parts.items()}
