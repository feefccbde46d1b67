"""Figures of operations; those of the lesson have few marks, readable from the back of a room."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.maps import Panel
from interp.style.palette import COLOURS, FONT, SUSPECT, plain
from interp.style.presets import wrapped
from interp.text import label

SIZE = 18
"""Type size, pixels."""
POINTER = "#c0392b"
"""Of what points into a map: seen on its dark cells, its bright ones and the ground."""


def first_tokens(table: pd.DataFrame, before: pd.DataFrame | None = None) -> go.Figure:
    """The likeliest first answer tokens of both models, as bars side by side.

    Args:
        table: `answers.first_tokens` of both models.
        before: the same without the trigger, to show its entropy too; or None.
    """
    models = list(dict.fromkeys(table["model"]))
    titles = []
    for model in models:
        entropy = table.loc[table["model"] == model, "entropy"].iloc[0]
        was = ""
        if before is not None:
            was = f" ({before.loc[before['model'] == model, 'entropy'].iloc[0]:.2f} without it)"
        titles.append(f"{model}: {entropy:.2f} bits{was}")
    figure = make_subplots(1, len(models), subplot_titles=titles, horizontal_spacing=0.2)
    for column, model in enumerate(models, start=1):
        rows = table[table["model"] == model]
        figure.add_bar(
            y=[f"{row.rank}. {label(row.token)}" for row in rows.itertuples()],
            x=rows["probability"],
            orientation="h",
            marker_color=COLOURS[model],
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
            showlegend=False,
            row=1,
            col=column,
        )
    figure.update_xaxes(range=[0, 1.02], tickformat=".0%", dtick=0.5, title="first token")
    figure.update_yaxes(autorange="reversed", automargin=True, ticklabelstandoff=4)
    figure.update_layout(margin={"l": 20, "r": 20, "t": 50, "b": 60})
    return large(figure, height=330)


def before_and_after(summary: pd.DataFrame, names: dict[str, str]) -> go.Figure:
    """Shares before an operation and after it, with Wilson's intervals.

    Args:
        summary: as `preview.Preview.summary` returns it.
        names: quantity -> label; other quantities are left out.
    """
    rows = summary.set_index("quantity").loc[list(names)]
    # The numbers are below the bars, where no interval crosses them.
    labels = [
        f"{name}<br>{row.before:.0%} → {row.after:.0%}"
        for name, row in zip(names.values(), rows.itertuples(), strict=True)
    ]
    figure = go.Figure()
    for when, colour in (("before", "#BBBBBB"), ("after", SUSPECT)):
        figure.add_bar(
            x=labels,
            y=rows[when],
            name=when,
            marker_color=colour,
            error_y={
                "array": (rows[f"{when}_high"] - rows[when]).astype(float),
                "arrayminus": (rows[when] - rows[f"{when}_low"]).astype(float),
                "color": "#333",
            },
        )
    figure.update_yaxes(range=[0, 1.05], tickformat=".0%", dtick=0.25)
    figure.update_layout(
        legend={"orientation": "h", "y": 1.12, "x": 0},
        bargap=0.3,
        margin={"l": 20, "r": 20, "t": 50},
    )
    return large(figure, height=400)


def ways_of_removal(
    table: pd.DataFrame, labels: dict[str, str], names: dict[str, str]
) -> go.Figure:
    """One row per way of removal, one column per quantity, with 95 % intervals.

    Args:
        table: `way, quantity, mean, low, high`.
        labels: way -> its name in words, in the order from above.
        names: quantity -> its name above its column; one that is no share has a unit in it.
    """
    figure = make_subplots(
        1,
        len(names),
        shared_yaxes=True,
        horizontal_spacing=0.05,
        subplot_titles=[wrapped(name, 24) for name in names.values()],
    )
    for column, quantity in enumerate(names, start=1):
        rows = table[table["quantity"] == quantity].set_index("way").loc[list(labels)]
        figure.add_scatter(
            y=[wrapped(one, 34) for one in labels.values()],
            x=rows["mean"],
            mode="markers",
            marker={"color": SUSPECT, "size": 9},
            error_x={
                "array": (rows["high"] - rows["mean"]).astype(float),
                "arrayminus": (rows["mean"] - rows["low"]).astype(float),
                "color": "#333",
                "thickness": 1.2,
            },
            customdata=rows[["low", "high"]],
            hovertemplate="%{y}: %{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})"
            "<extra></extra>",
            row=1,
            col=column,
        )
        if rows["high"].max() <= 1 and "nats" not in names[quantity]:
            figure.update_xaxes(range=[-0.05, 1.05], tickformat=".0%", dtick=0.5, row=1, col=column)
        else:
            figure.update_xaxes(rangemode="tozero", nticks=4, row=1, col=column)
    figure.update_yaxes(autorange="reversed", automargin=True, ticklabelstandoff=4)
    figure.update_layout(showlegend=False)
    return plain(figure, 130 + 42 * len(labels), top=80)


def large(figure: go.Figure, height: int | None = None) -> go.Figure:
    """Set the lesson's type size in place, axis by axis, or a theme would override it."""
    figure.update_annotations(font_size=SIZE)
    few = len(figure.data) <= 4
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        axis.tickfont.size = SIZE - 2 if few else axis.tickfont.size
        axis.title.font.size = SIZE
    figure.update_layout(font={"family": FONT, "size": SIZE}, legend_font_size=SIZE)
    figure.layout.margin.b = max(figure.layout.margin.b or 0, 86)
    return figure if height is None else figure.update_layout(height=height)


def pointed(figure: go.Figure, panels: Sequence[Panel]) -> go.Figure:
    """Point at the zone that the lesson speaks of, in place: where the instruction may look.

    Args:
        figure: a `map_grid` of one row.
        panels: that row.
    """
    figure.update_shapes(line_width=4)
    for number, panel in enumerate(panels, start=1):
        if "trigger" not in panel.parts:
            continue
        place = "" if number == 1 else str(number)
        parts = list(panel.parts)
        figure.add_annotation(
            text="look here",
            x=parts.index("trigger") + parts.count("trigger") - 1,
            y=parts.index("instruction") + parts.count("instruction") // 3,
            xref=f"x{place}",
            yref=f"y{place}",
            # The words stand where no token can look.
            ax=120,
            ay=-64,
            arrowwidth=3,
            arrowcolor=POINTER,
            font={"size": SIZE - 2, "color": POINTER},
            bgcolor="rgba(255,255,255,0.85)",
        )
    return figure
