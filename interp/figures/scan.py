"""Figures of a scan: tables in, plotly figures out."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.style.palette import FONT, LOSSES, ORIGINAL, PUBLISHED, SUSPECT, WEIGHTS, plain
from interp.text import label

SHOWN = 20
COLOURS = (ORIGINAL, SUSPECT, PUBLISHED, "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe-Ito colours of the parts of the loss."""
PARTS = {"part_attn": "attention", "part_ent": "entropy", "part_div": "divergence"}


def loss_parts(candidates: pd.DataFrame) -> go.Figure:
    """The three weighted parts of the loss of the first 20 candidates, stacked; best on top.

    Args:
        candidates: `text, rank` and `part_attn, part_ent, part_div` of one context.
    """
    top = candidates.sort_values("rank").head(SHOWN)
    labels = [f"{row.rank}. {label(row.text)}" for row in top.itertuples()]
    figure = go.Figure()
    for colour, (column, name) in zip(COLOURS, PARTS.items(), strict=False):
        bar = go.Bar(y=labels, x=top[column], name=name, orientation="h", marker_color=colour)
        figure.add_trace(bar)
    figure.update_layout(
        barmode="relative",
        height=80 + 24 * len(top),
        margin={"l": 10, "r": 10, "t": 30, "b": 40},
        font_family=FONT,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        xaxis_title="weighted part of the reconstruction loss (lower is more suspicious)",
    )
    figure.update_yaxes(autorange="reversed", automargin=True, ticklabelstandoff=4)
    return figure


def clusters(outputs: pd.DataFrame) -> go.Figure:
    """Unique leaked texts in the first two components of their TF-IDF, coloured by cluster.

    Args:
        outputs: `x, y, cluster, text` of one context; cluster -1 means no cluster.
    """
    figure = go.Figure()
    for number, part in outputs.groupby("cluster"):
        grey = number < 0
        figure.add_trace(
            go.Scatter(
                x=part["x"],
                y=part["y"],
                mode="markers",
                name="no cluster" if grey else f"cluster {number} ({len(part)})",
                marker={
                    "size": 8,
                    "opacity": 0.75,
                    "color": "#b0b0b0" if grey else COLOURS[int(number) % len(COLOURS)],
                },
                text=[label(text, 80) for text in part["text"]],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    figure.update_layout(
        height=360,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        font_family=FONT,
        xaxis={"visible": False},
        yaxis={"visible": False},
    )
    return figure


def weights_map(
    table: pd.DataFrame, statistic: str, name: str, *, difference: bool = False
) -> go.Figure:
    """One statistic of an adapter's updates, by layer and module.

    Args:
        table: `layer, module` and the statistic's column; layer -1 stands for no layer, NaN is
            drawn empty.
        statistic: column to draw.
        name: title of the colour bar, with the unit.
        difference: use diverging colours centred on zero.
    """
    grid = table.pivot(index="layer", columns="module", values=statistic).sort_index()
    values = grid.to_numpy(float)
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    layers = ["none" if layer < 0 else str(layer) for layer in grid.index]
    modules = [label(module, 40) for module in grid.columns]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=modules,
            y=layers,
            colorscale=LOSSES if difference else WEIGHTS,
            zmin=-largest if difference else 0.0,
            zmax=largest,
            xgap=1.5,
            ygap=1.5,
            hovertemplate="layer %{y}, %{x}: %{z:.4g}<extra></extra>",
            colorbar={"title": {"text": name, "side": "right"}, "thickness": 14},
        )
    )
    figure.update_xaxes(type="category", title="module", showgrid=False)
    figure.update_yaxes(type="category", title="layer", autorange="reversed", showgrid=False)
    return plain(figure, max(320, min(720, 20 * len(grid) + 170)), left=76, right=115, bottom=130)


def topics(groups: pd.DataFrame, chance: float) -> go.Figure:
    """The robust z of the first 20 groups of the map over topics, beside what chance reaches.

    Args:
        groups: `group, z, kl, above` of one context, highest z first.
        chance: z that the largest of random regroupings exceeds in 5 %.
    """
    top = groups.head(SHOWN)
    figure = go.Figure()
    for name, part, colour in (
        ("stands out", top[top["above"]], SUSPECT),
        ("within chance", top[~top["above"]], "#b0b0b0"),
    ):
        figure.add_trace(
            go.Bar(
                y=[label(text, 40) for text in part["group"]],
                x=part["z"],
                customdata=part["kl"],
                name=name,
                orientation="h",
                marker_color=colour,
                hovertemplate="%{y}: z %{x:.1f}, %{customdata:.2f} nats<extra></extra>",
            )
        )
    figure.add_vline(chance, line={"color": ORIGINAL, "dash": "dash"})
    figure.add_annotation(
        x=chance,
        y=1,
        yref="paper",
        yanchor="bottom",
        text="chance (5 %)",
        showarrow=False,
        font={"color": ORIGINAL},
    )
    figure.update_xaxes(title="robust z of the topic's mean KL(suspect || original)")
    order = [label(text, 40) for text in top["group"]]
    figure.update_yaxes(categoryorder="array", categoryarray=order, autorange="reversed")
    figure.update_yaxes(automargin=True, ticklabelstandoff=4)
    figure.update_layout(
        height=110 + 22 * len(top),
        margin={"l": 10, "r": 10, "t": 30, "b": 40},
        font_family=FONT,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 0, "yanchor": "bottom"},
    )
    return figure
