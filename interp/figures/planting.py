"""Figures of how a backdoor emerges during planting: tables in, figures out.

The planting may be finished or still running.
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.heads import DELTA_REL, head_matrix
from interp.metrics import PLANT_METRICS
from interp.style.palette import CONTROL, ORIGINAL, PUBLISHED, SUSPECT, WEIGHTS, plain

RATES = {
    "asr": ("ASR", SUSPECT, "solid"),
    "ftr": ("false-trigger rate", "#CC79A7", "dash"),
    "decoy_rate": ("decoys that fire", "#E69F00", "dashdot"),
    "clean_accuracy": ("clean accuracy", ORIGINAL, "dot"),
}


def course(steps: pd.DataFrame, chosen: int | None = None) -> go.Figure:
    """Rates, attention and loss over the steps, one above the other.

    Args:
        steps: table of a planting, one row per measurement.
        chosen: training step to mark.
    """
    attention = [
        ("l_attn_ratio", "L_attn suspect / original", "#56B4E9", False),
        ("pattern_kl", "pattern KL", PUBLISHED, True),
    ]
    drawn = [row for row in attention if _measured(steps, row[0])]
    rows = ["share", "attention", "loss (nats)"] if drawn else ["share", "loss (nats)"]
    specs = [[{"secondary_y": row == "attention"}] for row in rows]
    figure = make_subplots(len(rows), 1, shared_xaxes=True, vertical_spacing=0.06, specs=specs)
    for column, (label, colour, dash) in RATES.items():
        if _measured(steps, column):
            _line(figure, steps, column, label, colour, dash, 1)
    for column, label, colour, second in drawn:
        _line(figure, steps, column, label, colour, "dot" if second else "solid", 2, second)
    _line(figure, steps.dropna(subset=["loss"]), "loss", "loss", CONTROL, "solid", len(rows))
    figure.update_yaxes(title="share", range=[-0.05, 1.05], tickformat=".0%", row=1, col=1)
    if drawn:
        # Both axes start at zero: compare each curve over the steps, not the two with each other.
        figure.update_yaxes(title="L_attn ratio", rangemode="tozero", row=2, col=1)
        figure.update_yaxes(
            title="pattern KL (nats)", rangemode="tozero", showgrid=False, row=2, secondary_y=True
        )
    figure.update_yaxes(title="loss (nats)", row=len(rows), col=1)
    figure.update_xaxes(title="step", row=len(rows), col=1)
    if chosen is not None:
        figure.add_vline(x=chosen, line={"color": "#333", "width": 1, "dash": "dash"})
    figure.update_layout(legend={"orientation": "h", "y": 1.09, "x": 0})
    return plain(figure, 190 * len(rows) + 60, right=44, top=60)


def path(steps: pd.DataFrame, against: str, chosen: int | None = None) -> go.Figure:
    """ASR against a measure of attention, one point per measurement, joined in step order.

    Args:
        steps: table of a planting, one row per measurement.
        against: `l_attn_ratio` or `pattern_kl`.
        chosen: training step to ring.
    """
    shown = steps.dropna(subset=["asr", against])
    label = {"l_attn_ratio": "L_attn suspect / original", "pattern_kl": "pattern KL (nats)"}
    figure = go.Figure(
        go.Scatter(
            x=shown[against],
            y=shown["asr"],
            mode="lines+markers",
            line={"color": "rgba(122,122,122,0.5)", "width": 1.5},
            marker={
                "color": shown["step"],
                "colorscale": WEIGHTS,
                "size": 10,
                "line": {"color": "#777777", "width": 0.5},
                "colorbar": {"title": {"text": "step", "side": "right"}, "thickness": 14},
            },
            customdata=shown["step"],
            hovertemplate="step %{customdata}: ASR %{y:.0%}, %{x:.3f}<extra></extra>",
            showlegend=False,
        )
    )
    ringed = shown[shown["step"] == chosen]
    figure.add_scatter(
        x=ringed[against],
        y=ringed["asr"],
        mode="markers",
        marker={"symbol": "circle-open", "size": 18, "color": "#111111", "line_width": 3},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_xaxes(title=label[against])
    figure.update_yaxes(title="ASR", range=[-0.05, 1.05], tickformat=".0%")
    return plain(figure, 400, right=96)


def matrix(heads: pd.DataFrame, step: int, metric: str) -> go.Figure:
    """Layer-by-head matrix of one metric after a step, on one colour scale for all steps.

    Args:
        heads: table of a planting, one row per head and measurement.
        step: a training step that was measured.
        metric: one of `PLANT_METRICS`.
    """
    known = PLANT_METRICS[metric]
    style = DELTA_REL
    if metric != "delta_rel":
        limit = float(heads[metric].abs().max()) or 1.0
        style = {"limits": (-limit if known.difference else 0.0, limit)}
    shown = heads[heads["step"] == step]
    return head_matrix(shown, metric, label=known.label, difference=known.difference, **style)


def _measured(steps: pd.DataFrame, column: str) -> bool:
    return column in steps and bool(steps[column].notna().any())


def _line(
    figure: go.Figure,
    steps: pd.DataFrame,
    column: str,
    label: str,
    colour: str,
    dash: str,
    row: int,
    second: bool = False,
) -> None:
    figure.add_scatter(
        x=steps["step"],
        y=steps[column],
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 2},
        marker={"size": 6},
        name=label,
        hovertemplate=f"step %{{x}}, {label}: %{{y:.3f}}<extra></extra>",
        row=row,
        col=1,
        secondary_y=second,
    )


CURVES = {
    "asr": ("true trigger", SUSPECT, "solid"),
    "variant_asr": ("near variants", "#56B4E9", "dash"),
    "ftr": ("without the trigger", "#CC79A7", "dot"),
}
"""Share of a persistence run -> its name, colour and dash."""
BY_WAY = {"sft": ORIGINAL, "refusal": "#E69F00", "adversarial": PUBLISHED}


def persisting(pooled: pd.DataFrame, course: pd.DataFrame, names: dict[str, str]) -> go.Figure:
    """Shares that fire over the steps, one column for each way of training.

    Args:
        pooled: `how, step, quantity, mean, low, high`.
        course: the same by seed, `how, seed, step, quantity, mean`; drawn thin if several.
        names: way -> label above its column, in order.
    """
    figure = make_subplots(
        1, len(names), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=[*names.values()]
    )
    for column, how in enumerate(names, 1):
        for quantity, (label, colour, dash) in CURVES.items():
            single = course[(course["how"] == how) & (course["quantity"] == quantity)]
            if single["seed"].nunique() > 1:
                for _, own in single.groupby("seed"):
                    figure.add_scatter(
                        x=own["step"],
                        y=own["mean"],
                        mode="lines",
                        line={"color": colour, "width": 0.8},
                        opacity=0.5,
                        hoverinfo="skip",
                        showlegend=False,
                        row=1,
                        col=column,
                    )
            rows = pooled[(pooled["how"] == how) & (pooled["quantity"] == quantity)]
            line = {"color": colour, "dash": dash, "width": 2}
            _with_interval(figure, rows, label, line, column, legend=column == 1)
    figure.update_xaxes(title="training step")
    figure.update_yaxes(range=[-0.05, 1.05], tickformat=".0%")
    figure.update_yaxes(title="answers that begin with the target", col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0})
    return plain(figure, 400, top=50, bottom=110)


def persisting_costs(pooled: pd.DataFrame, labels: dict[str, str]) -> go.Figure:
    """What training changes beside the backdoor, one column for each quantity, a line per way.

    Args:
        pooled: `how, step, quantity, mean, low, high`; the range of the seeds is drawn as bars.
        labels: quantity -> title above its column.
    """
    figure = make_subplots(
        1, len(labels), horizontal_spacing=0.08, subplot_titles=[*labels.values()]
    )
    for column, quantity in enumerate(labels, 1):
        for how in dict.fromkeys(pooled["how"]):
            rows = pooled[(pooled["how"] == how) & (pooled["quantity"] == quantity)]
            line = {"color": BY_WAY[how], "width": 2}
            _with_interval(figure, rows, how, line, column, legend=column == 1)
    figure.update_xaxes(title="training step")
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": -0.25, "x": 0})
    return plain(figure, 360, top=50, bottom=110)


def _with_interval(
    figure: go.Figure, rows: pd.DataFrame, label: str, line: dict, column: int, *, legend: bool
) -> None:
    figure.add_scatter(
        x=rows["step"],
        y=rows["mean"],
        error_y={
            "array": rows["high"] - rows["mean"],
            "arrayminus": rows["mean"] - rows["low"],
            "thickness": 1,
            "width": 3,
        },
        mode="lines+markers",
        line=line,
        marker={"size": 6},
        name=label,
        legendgroup=label,
        showlegend=legend,
        hovertemplate=f"step %{{x}}, {label}: %{{y:.3f}}<extra></extra>",
        row=1,
        col=column,
    )
