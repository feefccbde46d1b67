"""Layout of maps for paper or slides: as many per row as stay readable."""

import math
import re

import plotly.graph_objects as go

from interp.figures.maps import BELOW, BESIDE, Panel, colour_limits, map_grid
from interp.style.presets import MM, Style

TALLEST = 230 * MM
"""Height of a page of a journal, pixels."""

Panels = list[list[Panel | None]]


def fitted(panels: Panels, style: Style) -> dict[str, go.Figure]:
    """One or more figures of the panels, all on the same colour scales.

    A label needs `style.pitch` pixels, so a panel of n tokens needs n times that. If not all
    columns fit in one row, each column becomes its own figure, with as many rows as needed. On a
    slide each column is always its own figure, in one row. If even one panel is too wide, some
    tokens get no label.

    Returns:
        Name of the part (empty if there is only one figure) -> figure.
    """
    slide = style.height is not None
    fitting = _fitting(panels, style)
    if slide or fitting < len(panels[0]):
        across = max(len(panels), len(panels[0])) if slide else fitting
        groups = {name: _in_rows(group, across) for name, group in _apart(panels).items()}
    else:
        groups = {"": panels}
    limits, drawn = colour_limits(panels), {}
    for name, group in groups.items():
        for part, rows in _pages(group, style).items():
            drawn[f"{name}-{part}".strip("-")] = _drawn(rows, style, limits)
    return drawn


def _apart(panels: Panels) -> dict[str, list[Panel]]:
    """Name -> column of panels; a single row is not split."""
    columns = [[panel for panel in column if panel] for column in zip(*panels, strict=True)]
    if len(panels) == 1 or len(columns) == 1:
        return {"": [panel for row in panels for panel in row if panel]}
    names = [_name(column) for column in columns]
    if len(set(names)) < len(names):
        names = [str(number) for number in range(1, len(columns) + 1)]
    return dict(zip(names, columns, strict=True))


def _in_rows(panels: list[Panel], across: int) -> Panels:
    rows: Panels = [list(panels[at : at + across]) for at in range(0, len(panels), across)]
    rows[-1] += [None] * (len(rows[0]) - len(rows[-1]))
    return rows


def _pages(panels: Panels, style: Style) -> dict[str, Panels]:
    """Split rows that are higher together than a page into several figures."""
    height = len(panels) * (_side(len(panels[0]), style) + 4 * style.small)
    if style.name != "paper" or height <= TALLEST:
        return {"": panels}
    return {str(number): [row] for number, row in enumerate(panels, start=1)}


def _fitting(panels: Panels, style: Style) -> int:
    """The largest number of columns whose panels fit every label; at least one."""
    need = _tokens(panels) * style.pitch
    counts = range(len(panels[0]), 1, -1)
    return next((count for count in counts if _side(count, style) >= need), 1)


def _side(columns: int, style: Style, *, bars_below: bool = False) -> float:
    """Side of one panel, pixels: the width less labels and colour bar, shared by the columns."""
    plot = style.width - (5 if bars_below else 11) * style.small
    return plot * (1 - (columns - 1) * BESIDE / columns) / columns


def _drawn(panels: Panels, style: Style, limits: dict[bool, float]) -> go.Figure:
    side, rows = _side(len(panels[0]), style), len(panels)
    height = style.height
    # A journal column is wide enough for 40 labels if the colour bars move below.
    below = height is None and side < _tokens(panels) * style.pitch
    if below:
        side = _side(len(panels[0]), style, bars_below=True)
    figure = _grid(panels, side, style, limits)
    if height is None:
        plot = rows * side / (1 - (rows - 1) * BELOW / rows)
        height = plot + _label_room(panels, side, style) + 2.5 * style.font
        if below:
            height += _bars_below(figure, style)
    else:
        _square(figure, side, height - _label_room(panels, side, style) - 3 * style.font)
    return figure.update_layout(width=round(style.width), height=round(height))


def _bars_below(figure: go.Figure, style: Style) -> float:
    """Move the colour bars below the panels; returns their height in pixels."""
    used = [name for name in ("coloraxis", "coloraxis2") if _uses(figure, name)]
    for number, name in enumerate(used):
        bar = figure.layout[name].colorbar
        middle = (number + 0.5) / len(used)
        bar.update(orientation="h", len=0.8 / len(used), x=middle, xanchor="center")
        bar.update(yref="container", y=0.0, yanchor="bottom", title_side="bottom")
    return 4.5 * style.small


def _uses(figure: go.Figure, name: str) -> bool:
    return any(trace.coloraxis == name for trace in figure.data)


def _square(figure: go.Figure, side: float, room: float) -> None:
    """Make the panels of a slide square and centre them."""
    share = min(1.0, side / room)
    low, high = (1 - share) / 2, (1 + share) / 2
    figure.update_yaxes(domain=[low, high])
    for note in figure.layout.annotations:
        if note.yref == "paper":
            note.y = high


def _grid(panels: Panels, side: float, style: Style, limits: dict[bool, float]) -> go.Figure:
    pitch = side / _tokens(panels)
    step = math.ceil(style.pitch / pitch)
    size = min(style.small, 0.95 * pitch * step)
    named = math.ceil(_tokens(panels) / step)
    return map_grid(panels, side=side, labels=named, label_size=size, limits=limits)


def _label_room(panels: Panels, side: float, style: Style) -> float:
    size = min(style.small, max(style.pitch, side / _tokens(panels)))
    longest = max(len(label) for row in panels for panel in row if panel for label in panel.labels)
    return min(longest, 28) * 0.62 * size + style.small


def _tokens(panels: Panels) -> int:
    return max(len(panel.parts) for row in panels for panel in row if panel)


def _name(column: list[Panel]) -> str:
    """Common name of a column, such as `random-string`; empty if its panels share no name."""
    titles = {panel.title.rpartition(" · ")[2] for panel in column if " · " in panel.title}
    return re.sub(r"[^a-z0-9]+", "-", titles.pop().lower()).strip("-") if len(titles) == 1 else ""
