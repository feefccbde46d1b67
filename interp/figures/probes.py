"""Figures of probes: AUROC by layer, and what a probe says along one prompt."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.metrics import MODELS
from interp.style.palette import COLOURS, CONTROL, plain, token_axis

LINES = {
    "suspect": (COLOURS["suspect"], "solid", "circle"),
    "original": (COLOURS["original"], "dash", "square"),
    "clean control": ("#009E73", "dot", "diamond"),
}
"""Model -> colour, dash and marker, for grey print too."""

KIND_COLOURS = ("#666666", "#D55E00", "#E69F00", "#CC79A7", "#0072B2", "#56B4E9")
"""Of what stands in a prompt: nothing, four forms of the trigger, other strings."""


def auroc_by_layer(auroc: pd.DataFrame, band: pd.DataFrame) -> go.Figure:
    """AUROC of each probe by layer, with 95 % intervals, and the band of random directions.

    Args:
        auroc: rows of one position and one way of fitting: `probe, model, layer, auroc, low, high`.
        band: rows of the suspect at that position: `layer, low, high`.
    """
    probes = list(dict.fromkeys(auroc["probe"]))
    titles = [f"{probe} probe" for probe in probes]
    figure = make_subplots(
        1, len(probes), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=titles
    )
    null = band.sort_values("layer")
    edge = {"x": null["layer"], "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    fill = {"fill": "tonexty", "fillcolor": "rgba(102,102,102,0.15)"}
    for column, probe in enumerate(probes, 1):
        first = column == 1
        figure.add_scatter(y=null["low"], **edge, showlegend=False, row=1, col=column)
        figure.add_scatter(
            y=null["high"],
            **edge,
            **fill,
            name="random directions, middle 95 % (suspect)",
            showlegend=first,
            row=1,
            col=column,
        )
        figure.add_hline(y=0.5, line={"color": CONTROL, "dash": "dot"}, row=1, col=column)
        for model, (colour, dash, symbol) in LINES.items():
            own = auroc[(auroc["probe"] == probe) & (auroc["model"] == model)].sort_values("layer")
            if own.empty:
                continue
            figure.add_scatter(
                x=own["layer"],
                y=own["auroc"],
                error_y={
                    "array": own["high"] - own["auroc"],
                    "arrayminus": own["auroc"] - own["low"],
                    "thickness": 1.2,
                    "width": 3,
                },
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 2},
                marker={"symbol": symbol, "size": 7},
                name=model,
                legendgroup=model,
                showlegend=first,
                hovertemplate=f"{model}, layer %{{x}}: %{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_xaxes(title="layer", dtick=max(1, auroc["layer"].nunique() // 10))
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="AUROC, trigger against clean", row=1, col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0})
    return plain(figure, 440, top=50, bottom=110)


def caught_by_layer(caught: pd.DataFrame) -> go.Figure:
    """Share of prompts that raise an alarm by layer, a panel for each direction.

    Args:
        caught: `model, direction, layer, kind, caught, low, high`.
    """
    directions, kinds = (list(dict.fromkeys(caught[name])) for name in ("direction", "kind"))
    figure = make_subplots(
        1, len(directions), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=directions
    )
    for column, direction in enumerate(directions, 1):
        for colour, kind in zip(KIND_COLOURS, kinds, strict=False):
            for model, dash in (("suspect", "solid"), ("clean control", "dot")):
                own = caught[
                    (caught["direction"] == direction)
                    & (caught["kind"] == kind)
                    & (caught["model"] == model)
                ].sort_values("layer")
                solid = dash == "solid"
                error = {"array": own["high"] - own["caught"], "thickness": 1, "width": 2}
                error |= {"arrayminus": own["caught"] - own["low"]}
                figure.add_scatter(
                    x=own["layer"],
                    y=own["caught"],
                    error_y=error if solid else None,
                    mode="lines+markers",
                    line={"color": colour, "dash": dash, "width": 2 if solid else 1.2},
                    marker={"size": 6 if solid else 4},
                    name=kind,
                    legendgroup=kind,
                    showlegend=solid and column == 1,
                    hovertemplate=f"{model}, {kind}, layer %{{x}}: %{{y:.0%}}<extra></extra>",
                    row=1,
                    col=column,
                )
    figure.update_xaxes(title="layer", dtick=max(1, caught["layer"].nunique() // 10))
    figure.update_yaxes(range=[-0.04, 1.04], tickformat=".0%")
    figure.update_yaxes(title="prompts that raise the alarm", row=1, col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0})
    return plain(figure, 460, top=50, bottom=130)


def along_prompt(tokens: pd.DataFrame) -> go.Figure:
    """What a probe says at every token of one prompt, original and suspect.

    Args:
        tokens: `model, position, token, part, score` in log-odds.
    """
    figure = go.Figure()
    for model in MODELS:
        own = tokens[tokens["model"] == model]
        colour, dash, symbol = LINES[model]
        figure.add_scatter(
            x=own["position"],
            y=own["score"],
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 7},
            name=model,
            hovertemplate=f"{model}, token %{{x}}: %{{y:.2f}}<extra></extra>",
        )
    shown = tokens[tokens["model"] == MODELS[0]]
    trigger = shown.loc[shown["part"] == "trigger", "position"]
    if len(trigger):
        figure.add_vrect(
            x0=trigger.min() - 0.5,
            x1=trigger.max() + 0.5,
            fillcolor="#F0E442",
            opacity=0.18,
            line_width=0,
            layer="below",
        )
        middle = (trigger.min() + trigger.max()) / 2
        figure.add_annotation(text="trigger", x=middle, y=1.0, yref="paper", showarrow=False)
    figure.add_hline(y=0, line={"color": CONTROL, "dash": "dot"})
    figure.update_xaxes(
        **token_axis(list(shown["token"]), list(shown["position"])),
        tickangle=-60,
        tickfont={"size": 10},
    )
    figure.update_yaxes(title="probe (log-odds)")
    figure.update_layout(legend={"orientation": "h", "y": 1.12, "x": 0})
    return plain(figure, 400, top=50, bottom=80)
