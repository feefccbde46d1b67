"""Figures of causal runs: tidy tables in, plotly figures out. Independent of models and the app."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.heads import DELTA_REL, head_matrix
from interp.metrics import ALL_LAYERS, CAUSAL_METRICS, MODELS, PART_METRICS, head_name
from interp.stats import agreement
from interp.style.palette import COLOURS, CONTROL, WEIGHTS, plain, token_axis
from interp.style.presets import wrapped

LINES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
"""Okabe-Ito colours of the rankings; random ones are grey and dotted."""
DASHES = ["solid", "dash", "longdash", "dashdot", "solid", "dash", "longdash"]
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star", "cross"]
"""Markers for grey print, where some colours look the same."""


def metric_matrix(
    heads: pd.DataFrame,
    metric: str,
    *,
    selected: tuple[int, int] | None = None,
    operated: Sequence[tuple[int, int]] = (),
) -> go.Figure:
    """Layer-by-head matrix of one metric, drawn and clicked like `heads.head_matrix`.

    Args:
        heads: `head_table.head_table`; the run may still be running.
        metric: one of `CAUSAL_METRICS`.
        selected: (layer, head) to frame.
        operated: (layer, head) of each head to cross out.
    """
    known = CAUSAL_METRICS[metric]
    style = DELTA_REL if metric == "delta_rel" else {}
    if known.falling:  # values are all near the unpatched KL, so colours span their range
        style = {"limits": (heads[metric].min(), heads[metric].max())}
    figure = head_matrix(
        heads, metric, label=known.label, difference=known.difference, selected=selected, **style
    )
    if operated:
        layers, numbers = zip(*operated, strict=True)
        # White under black is visible on every colour of both scales.
        for colour, width in (("#FFFFFF", 5), ("#111111", 2)):
            figure.add_scatter(
                x=numbers,
                y=layers,
                mode="markers",
                marker={"symbol": "x-thin", "size": 15, "line": {"color": colour, "width": width}},
                hoverinfo="skip",
                showlegend=False,
            )
    return figure


def metric_scatter(
    heads: pd.DataFrame,
    x: str,
    y: str,
    *,
    selected: tuple[int, int] | None = None,
    per_group: int = 1,
) -> go.Figure:
    """One metric against another, one point per head, with Spearman's rho and its interval.

    Args:
        heads: `head_table.head_table`.
        x: metric on the x axis, one of `CAUSAL_METRICS`.
        y: metric on the y axis, one of `CAUSAL_METRICS`.
        selected: (layer, head) to ring.
        per_group: query heads that share one key-value head; 1 if each has its own.
    """
    shown = heads.dropna(subset=[x, y])
    figure = go.Figure(
        go.Scatter(
            x=shown[x],
            y=shown[y],
            mode="markers",
            marker={
                "color": shown["layer"],
                "colorscale": WEIGHTS,
                "size": 9,
                "line": {"color": "#777777", "width": 0.5},
                "colorbar": {"title": {"text": "layer", "side": "right"}, "thickness": 14},
            },
            text=[head_name(*head) for head in shown[["layer", "head"]].to_numpy()],
            customdata=shown[["layer", "head"]].to_numpy(),
            hovertemplate="%{text}<br>%{x:.4f}, %{y:.4f}<extra></extra>",
            showlegend=False,
        )
    )
    ring = (
        shown[(shown["layer"] == selected[0]) & (shown["head"] == selected[1])] if selected else ()
    )
    if len(ring):
        figure.add_scatter(
            x=ring[x],
            y=ring[y],
            mode="markers",
            marker={"symbol": "circle-open", "size": 18, "color": "#111111", "line_width": 3},
            hoverinfo="skip",
            showlegend=False,
        )
    rho = agreement(heads, x, y, per_group=per_group)
    figure.update_layout(title={"text": str(rho), "font": {"size": 14}})
    figure.update_xaxes(title=CAUSAL_METRICS[x].label)
    figure.update_yaxes(title=CAUSAL_METRICS[y].label)
    return plain(figure, 470, left=100, right=92, top=50)


def token_strip(tokens: pd.DataFrame, *, answer_only: bool = False) -> go.Figure:
    """Loss of both models and their KL above each token of one conversation.

    Args:
        tokens: `divergence.token_divergence`.
        answer_only: leave out the tokens before the trigger.
    """
    shown = tokens[tokens["part"] != "start"] if answer_only else tokens
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
    for which in MODELS:
        figure.add_bar(
            x=shown["position"],
            y=shown[f"loss_{which}"],
            marker_color=COLOURS[which],
            name=f"loss, {which}",
            row=1,
            col=1,
        )
    figure.add_bar(
        x=shown["position"],
        y=shown["kl"],
        marker_color=CONTROL,
        name="KL(suspect ‖ original)",
        row=2,
        col=1,
    )
    named = shown[shown["part"].isin(["trigger", "answer"])]
    for part, colour in (("trigger", "#F0E442"), ("answer", "#56B4E9")):
        places = named[named["part"] == part]["position"]
        # A scattered trigger stands in several places.
        for _, piece in places.groupby((places.diff() != 1).cumsum()):
            figure.add_vrect(
                x0=piece.min() - 0.5,
                x1=piece.max() + 0.5,
                fillcolor=colour,
                opacity=0.18,
                line_width=0,
                layer="below",
            )
            middle = (piece.min() + piece.max()) / 2
            figure.add_annotation(text=part, x=middle, y=1.0, yref="paper", showarrow=False)
    figure.update_xaxes(
        **token_axis(list(shown["token"]), list(shown["position"])),
        tickangle=-60,
        tickfont={"size": 10},
        row=2,
        col=1,
    )
    figure.update_yaxes(title="loss (nats)", row=1, col=1)
    figure.update_yaxes(title="KL (nats)", row=2, col=1)
    figure.update_layout(barmode="group", legend={"orientation": "h", "y": 1.12, "x": 0})
    return plain(figure, 430, top=50, bottom=80)


def parts_by_layer(parts: pd.DataFrame, metric: str) -> go.Figure:
    """One metric of attention and of the MLP of each layer, with 95 % intervals.

    Args:
        parts: `parts.part_table`; the row of all layers at once is drawn as a dotted line.
        metric: one of `PART_METRICS`.
    """
    figure = go.Figure()
    for number, (part, own) in enumerate(parts.groupby("part", sort=True)):
        single = own[own["layer"] != ALL_LAYERS].sort_values("layer")
        name = {"mlp": "MLP"}.get(part, part)
        figure.add_scatter(
            x=single["layer"],
            y=single[metric],
            error_y={
                "array": single[f"{metric}_high"] - single[metric],
                "arrayminus": single[metric] - single[f"{metric}_low"],
                "thickness": 1.2,
                "width": 2,
            },
            mode="lines+markers",
            line=_line(part, number),
            marker={"size": 7, "symbol": SYMBOLS[number]},
            name=name,
            hovertemplate=f"{name} of layer %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        whole = own.loc[own["layer"] == ALL_LAYERS, metric]
        if len(whole) and metric == "part_effect":
            line = {"color": LINES[number], "dash": "dot", "width": 1.5}
            text = f"{name}, all layers: {whole.iloc[0]:.2f}"
            where = "top left" if number == 0 else "bottom right"
            figure.add_hline(
                y=whole.iloc[0], line=line, annotation_text=text, annotation_position=where
            )
    figure.update_xaxes(title="layer", dtick=max(1, parts["layer"].nunique() // 16))
    figure.update_yaxes(title=wrapped(PART_METRICS[metric].label, 46))
    figure.update_layout(legend={"orientation": "h", "y": -0.2, "x": 0})
    return plain(figure, 420, top=50, left=110)


def surgery_curve(
    curve: pd.DataFrame, n_heads: int, *, max_asr: float, max_loss: float
) -> go.Figure:
    """ASR and clean accuracy against the number of heads operated on, one line per ranking.

    Args:
        curve: `search.curve` of one or more rankings.
        n_heads: number of heads in the model, to show shares.
        max_asr: the largest ASR allowed, drawn dotted.
        max_loss: the largest loss of clean accuracy against the untouched suspect, drawn dotted.
    """
    figure = make_subplots(
        2, 1, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=["ASR", "clean accuracy"]
    )
    for number, (ranking, part) in enumerate(curve.groupby("ranking", sort=False)):
        for row, column in enumerate(("asr", "clean"), start=1):
            figure.add_scatter(
                x=part["n"],
                y=part[column],
                mode="lines+markers",
                line=_line(ranking, number),
                marker={"size": 7, "symbol": SYMBOLS[number % len(SYMBOLS)]},
                name=_named(ranking),
                legendgroup=ranking,
                showlegend=row == 1,
                customdata=part[[f"{column}_low", f"{column}_high"]],
                hovertemplate=_named(ranking)
                + ", %{x} heads: %{y:.0%} (%{customdata[0]:.0%} to %{customdata[1]:.0%})"
                + "<extra></extra>",
                row=row,
                col=1,
            )
    untouched = float(curve[curve["n"] == 0]["clean"].iloc[0])
    for row, goal in ((1, max_asr), (2, untouched - max_loss)):
        figure.add_hline(y=goal, line={"color": "#999999", "dash": "dot"}, row=row, col=1)
    figure.update_yaxes(tickformat=".0%", range=[-0.04, 1.04])
    figure.update_xaxes(title=f"heads replaced, of {n_heads}", row=2, col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.16, "x": 0})
    return plain(figure, 620, top=50)


def cumulative_curve(table: pd.DataFrame, n_heads: int) -> go.Figure:
    """Mean KL to the original when the first n heads of each order are the original's.

    Args:
        table: `cumulative.cumulative`.
        n_heads: number of heads in the model.
    """
    figure = go.Figure()
    shuffled = table["order"].str.startswith("random")
    merged = table.assign(order=table["order"].where(~shuffled, "random"))
    for number, (order, part) in enumerate(merged.groupby("order", sort=False)):
        mean = part.groupby("n")["kl"].mean()
        figure.add_scatter(
            x=mean.index,
            y=mean,
            mode="lines+markers",
            line=_line(order, number),
            marker={"size": 7, "symbol": SYMBOLS[number % len(SYMBOLS)]},
            name="random (mean of shuffles)" if order == "random" else _named(order),
            hovertemplate="%{x} heads: %{y:.1f} nats<extra></extra>",
        )
    figure.update_xaxes(title=f"heads patched from the original, of {n_heads}")
    figure.update_yaxes(title="KL(patched suspect ‖ original), nats", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": -0.24, "x": 0})
    return plain(figure, 470, top=50)


def dial_curve(table: pd.DataFrame, names: dict[str, str]) -> go.Figure:
    """One row per quantity against the adapter's strength, with 95 % bands; 0 and 1 marked.

    Args:
        table: `strength, quantity, mean, low, high`.
        names: quantity -> its name in words.
    """
    rows = [name for name in names if name in set(table["quantity"])]
    figure = make_subplots(
        len(rows),
        1,
        shared_xaxes=True,
        vertical_spacing=0.08,
        subplot_titles=[*map(names.get, rows)],
    )
    for row, quantity in enumerate(rows, 1):
        part = table[table["quantity"] == quantity]
        line = {"color": COLOURS["suspect"], "width": 2}
        edge = {"x": part["strength"], "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        figure.add_scatter(y=part["low"], **edge, row=row, col=1)
        fill = {"fill": "tonexty", "fillcolor": "rgba(213,94,0,0.15)"}
        figure.add_scatter(y=part["high"], **edge, **fill, row=row, col=1)
        figure.add_scatter(
            x=part["strength"],
            y=part["mean"],
            mode="lines+markers",
            line=line,
            customdata=part[["low", "high"]],
            hovertemplate="strength %{x}: %{y:.3f} (%{customdata[0]:.3f} to "
            "%{customdata[1]:.3f})<extra></extra>",
            row=row,
            col=1,
        )
        if quantity in ("asr", "ftr"):
            figure.update_yaxes(range=[-0.04, 1.04], tickformat=".0%", row=row, col=1)
        else:
            figure.update_yaxes(rangemode="tozero", row=row, col=1)
    for strength in (0, 1):
        figure.add_vline(x=strength, line={"color": "#999999", "dash": "dot"})
    figure.update_xaxes(title="strength of the adapter (0: base, 1: suspect)", row=len(rows), col=1)
    figure.update_layout(showlegend=False)
    return plain(figure, 90 + 150 * len(rows), top=50)


def before_and_after(summary: pd.DataFrame, names: dict[str, str]) -> go.Figure:
    """Rates before and after an operation, with Wilson's intervals.

    Args:
        summary: `quantity, before, before_low, before_high, after, after_low, after_high`.
        names: quantity -> its name in words.
    """
    figure = go.Figure()
    for when, colour in (("before", CONTROL), ("after", COLOURS["suspect"])):
        rate = summary[when]
        figure.add_bar(
            y=[wrapped(names[quantity], 30) for quantity in summary["quantity"]],
            x=rate,
            orientation="h",
            name=when,
            marker_color=colour,
            error_x={
                "array": summary[f"{when}_high"] - rate,
                "arrayminus": rate - summary[f"{when}_low"],
                "color": "#333",
                "thickness": 1.2,
            },
            hovertemplate="%{y}, " + when + ": %{x:.1%}<extra></extra>",
        )
    figure.update_xaxes(title="share of the prompts", range=[-0.03, 1.05], tickformat=".0%")
    figure.update_yaxes(autorange="reversed", automargin=True, ticklabelstandoff=4)
    figure.update_layout(barmode="group", legend={"orientation": "h", "y": -0.2, "x": 0})
    return plain(figure, 130 + 62 * len(summary), top=50)


def _line(name: str, number: int) -> dict:
    if name == "random":
        return {"color": CONTROL, "dash": "dot", "width": 2}
    dash = DASHES[number % len(DASHES)]
    return {"color": LINES[number % len(LINES)], "width": 2, "dash": dash}


def _named(ranking: str) -> str:
    return CAUSAL_METRICS[ranking].label if ranking in CAUSAL_METRICS else ranking
