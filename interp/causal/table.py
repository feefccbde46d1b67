"""Measures of heads, prompt by prompt, as one row a head with intervals and ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from interp.attention.heads import FLOOR, RESAMPLES
from interp.causal.question import METRICS


def head_table(tables: dict[str, pd.DataFrame | None], seed: int = 0) -> pd.DataFrame:
    """Measures, whole or still growing, as one row a head.

    Args:
        tables: measure -> its tidy table, or None where there is nothing yet.
        seed: of the bootstrap.

    Returns:
        `layer, head` and for each metric its mean over prompts, `NAME_low` and `NAME_high` (95 %
        percentile bootstrap over prompts, 2,000 resamples; NaN on one prompt) and `NAME_rank` (1:
        matters most). What is not measured yet is NaN.
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
    for name, metric in METRICS.items():
        if name in grids:
            mean, drawn = _resampled(grids[name], seed)
            columns |= _interval(name, mean, drawn, len(grids[name]), metric.falling)
    if not columns:
        return pd.DataFrame({"layer": [], "head": []}, dtype=int)
    return pd.DataFrame(columns).rename_axis(["layer", "head"]).sort_index().reset_index()


def from_study(ranking: pd.DataFrame) -> pd.DataFrame:
    """Δ_rel of a study as a table of heads, where no causal run was made.

    Args:
        ranking: `study.Study.ranking`.

    Returns:
        As `head_table`: `delta_rel` and its rank, without an interval; NaN under the floor.
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
    """The metrics that a table of heads has numbers of, in the order of `METRICS`."""
    return [name for name in METRICS if name in heads and heads[name].notna().any()]


def ranked(heads: pd.DataFrame, metric: str) -> list[tuple[int, int]]:
    """(layer, head), the one that matters most first; those without a rank last."""
    order = heads.sort_values(f"{metric}_rank", na_position="last", kind="stable")
    return [(int(layer), int(head)) for layer, head in order[["layer", "head"]].to_numpy()]


def head_card(heads: pd.DataFrame, layer: int, head: int) -> pd.DataFrame:
    """Every metric of one head, with its rank among all.

    Args:
        heads: `head_table` or `from_study`.
        layer: of the head.
        head: in its layer.

    Returns:
        One row a metric: `metric, value, low, high, rank, of`; `of` counts the heads that have a
        rank, and rank is missing where the head has none.
    """
    row = heads[(heads["layer"] == layer) & (heads["head"] == head)].iloc[0]
    rows = [
        (name, row[name], row[f"{name}_low"], row[f"{name}_high"], row[f"{name}_rank"], of)
        for name in measured(heads)
        for of in [int(heads[f"{name}_rank"].notna().sum())]
    ]
    table = pd.DataFrame(rows, columns=["metric", "value", "low", "high", "rank", "of"])
    return table.astype({"rank": "Int64"})


SMALL = 0.05
"""Of the largest effect of any head: less is called small."""


def no_effect(heads: pd.DataFrame, layer: int, head: int) -> str | None:
    """Why a head cannot be called a cause, in a sentence; None where it can, or nothing is known.

    Args:
        heads: `head_table` with the ablation of single heads.
        layer: of the head.
        head: in its layer.
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
        f"Taken out alone it changes the target's loss by {value:.4f} nats a token{spread}, which "
        f"{what}: rank {int(row[f'{name}_rank'])} of {int(heads[name].notna().sum())}. The largest "
        f"effect is L{int(largest['layer'])}H{int(largest['head'])}'s, {largest[name]:.4f}."
    )


@dataclass(frozen=True)
class Agreement:
    """Spearman's rho of two metrics over heads, with its 95 % bootstrap interval over heads."""

    rho: float
    low: float
    high: float
    n: int
    p: float = np.nan
    """Two-sided, of shuffling groups of heads; not corrected for other tests (see `holm`)."""
    groups: int | None = None
    """Key-value groups that were resampled as wholes; None where heads were."""

    def __str__(self) -> str:
        if not np.isfinite(self.rho):
            return f"Spearman's ρ cannot be told of {self.n} heads"
        of = f"{self.n} heads" + (f" in {self.groups} KV groups" if self.groups else "")
        return f"Spearman's ρ = {self.rho:.2f} ({self.low:.2f} to {self.high:.2f}; {of})"


def agreement(
    heads: pd.DataFrame, x: str, y: str, seed: int = 0, *, per_group: int = 1
) -> Agreement:
    """Does one metric predict another? Heads that lack either are left out.

    Heads that share keys and values look alike, so they are resampled and shuffled together.

    Args:
        heads: as `head_table` returns it.
        x: column; likewise `y`.
        y: see `x`.
        seed: of the bootstrap (2,000 resamples) and of as many shuffles.
        per_group: query heads that share one key-value head; 1 where each has its own.
    """
    there = heads.dropna(subset=[x, y])
    values, n = there[[x, y]].to_numpy(np.float64), len(there)
    if n < 3 or (values.std(0) == 0).any():
        return Agreement(np.nan, np.nan, np.nan, n)
    names = there["layer"].to_numpy() * 10_000 + there["head"].to_numpy() // per_group
    groups = [np.flatnonzero(names == name) for name in np.unique(names)]
    rng = np.random.default_rng(seed)
    picked = rng.integers(len(groups), size=(RESAMPLES, len(groups)))
    if len({len(group) for group in groups}) == 1:
        drawn = values[np.stack(groups)[picked].reshape(RESAMPLES, n)]
        rhos = _spearman(drawn[..., 0], drawn[..., 1])
    else:  # resamples of different lengths
        chosen = (np.concatenate([groups[i] for i in row]) for row in picked)
        rhos = [_spearman(*values[rows].T) for rows in chosen]
    low, high = np.nanpercentile(rhos, [2.5, 97.5])
    rho = float(_spearman(*values.T))
    return Agreement(
        rho, float(low), float(high), n, _shuffled_p(values, groups, rho, rng),
        len(groups) if per_group > 1 else None,
    )  # fmt: skip


def per_group(facts: dict | None) -> int:
    """Query heads that share a key-value head; 1 where a run (an older one) does not say."""
    facts = facts or {}
    heads, shared = facts.get("n_heads"), facts.get("n_kv_heads")
    known = isinstance(heads, int) and isinstance(shared, int) and shared > 0
    return max(1, heads // shared) if known else 1


def agreements(
    heads: pd.DataFrame, pairs: Sequence[tuple[str, str]], *, per_group: int = 1
) -> pd.DataFrame:
    """Several agreements, each p with Holm's correction for all of them.

    Returns:
        One row a pair: `x, y, rho, low, high, n, p, p_holm`.
    """
    found = [agreement(heads, x, y, per_group=per_group) for x, y in pairs]
    rows = [(*pair, a.rho, a.low, a.high, a.n, a.p) for pair, a in zip(pairs, found, strict=True)]
    table = pd.DataFrame(rows, columns=["x", "y", "rho", "low", "high", "n", "p"])
    return table.assign(p_holm=holm(table["p"]))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's corrected p of several tests; NaN stays NaN and counts as no test."""
    values = np.asarray(p, np.float64)
    there = np.flatnonzero(np.isfinite(values))
    order = there[np.argsort(values[there], kind="stable")]
    out = np.full(len(values), np.nan)
    scaled = values[order] * (len(order) - np.arange(len(order)))
    out[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(order) else scaled
    return out


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[..., head] values -> [...] rho; NaN where a resample holds one value alone."""
    x, y = (rankdata(values, axis=-1) for values in (x, y))
    x, y = (ranks - ranks.mean(-1, keepdims=True) for ranks in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))


def _shuffled_p(
    values: np.ndarray, groups: list[np.ndarray], rho: float, rng: np.random.Generator
) -> float:
    """Share of shuffles with a rho as far from 0: whole groups change places with as large ones."""
    by_size: dict[int, list[np.ndarray]] = {}
    for group in groups:
        by_size.setdefault(len(group), []).append(group)
    moved = np.tile(values[:, 0], (RESAMPLES, 1))
    for alike in by_size.values():
        block = np.stack(alike)
        order = rng.random((RESAMPLES, len(block))).argsort(1)
        moved[:, block.ravel()] = values[block[order], 0].reshape(RESAMPLES, -1)
    rhos = _spearman(moved, np.broadcast_to(values[:, 1], moved.shape))
    return float((1 + (np.abs(rhos) >= abs(rho) - 1e-12).sum()) / (1 + RESAMPLES))


def _delta_rel(original: pd.DataFrame, suspect: pd.DataFrame, seed: int) -> dict[str, pd.Series]:
    """Δ_rel as `heads.delta_rel` defines it; heads under its floor are NaN."""
    before, drawn_before = _resampled(original, seed)
    after, drawn_after = _resampled(suspect, seed)
    kept = (before > FLOOR).to_numpy()
    mean = ((before - after) / before).where(kept)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.where(kept, (drawn_before - drawn_after) / drawn_before, np.nan)
    return _interval("delta_rel", mean, drawn, len(original), False)


def _resampled(grid: pd.DataFrame, seed: int) -> tuple[pd.Series, np.ndarray]:
    """Mean of each head over the prompts it was measured on, and over resamples of them."""
    values, n = grid.to_numpy(np.float64), len(grid)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        drawn = (draws @ np.where(there, values, 0.0)) / (draws @ there)
    return grid.mean(), drawn


def _interval(
    name: str, mean: pd.Series, drawn: np.ndarray, n_prompts: int, falling: bool
) -> dict[str, pd.Series]:
    low, high = np.full((2, len(mean)), np.nan)
    if n_prompts > 1:
        # A head under the floor has no value in any resample.
        known = np.isfinite(drawn).all(0)
        low[known], high[known] = np.percentile(drawn[:, known], [2.5, 97.5], axis=0)
    rank = mean.rank(ascending=falling, method="first").astype("Int64")
    parts = {"": mean, "_low": low, "_high": high, "_rank": rank}
    return {name + suffix: pd.Series(part, mean.index) for suffix, part in parts.items()}
