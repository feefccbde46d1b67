"""Maps laid out for a page of paper or a slide: as many beside each other as can be read."""

import math
import re

import plotly.graph_objects as go

from interp.figures.maps import BELOW, BESIDE, Panel, colour_limits, map_grid
from interp.style.presets import MM, Style

TALLEST = 230 * MM
"""Pixels of a journal's page."""

Panels = list[list[Panel | None]]


def fitted(panels: Panels, style: Style) -> dict[str, go.Figure]:
    """One or more figures of the panels, all on the same colour scales.

    A label needs `style.pitch` pixels, so a panel of n tokens needs n times that. Where not all
    columns fit beside each other, each becomes a figure of its own, its panels in as many rows as
    they need; on a slide always, in one row. Where even one panel is too wide, not every token is
    named.

    Returns:
        What tells the figures apart (`` if there is one) -> the figure.
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
    """Each column by its name; a single row stays together."""
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
    """Rows that are higher together than a page of paper become figures of their own."""
    height = len(panels) * (_side(len(panels[0]), style) + 4 * style.small)
    if style.name != "paper" or height <= TALLEST:
        return {"": panels}
    return {str(number): [row] for number, row in enumerate(panels, start=1)}


def _fitting(panels: Panels, style: Style) -> int:
    """The most columns whose panels have room for every label; at least one."""
    need = _tokens(panels) * style.pitch
    counts = range(len(panels[0]), 1, -1)
    return next((count for count in counts if _side(count, style) >= need), 1)


def _side(columns: int, style: Style, *, bars_below: bool = False) -> float:
    """Pixels of one panel with so many in a row; labels left and the colour bar right cost some."""
    plot = style.width - (5 if bars_below else 11) * style.small
    return plot * (1 - (columns - 1) * BESIDE / columns) / columns


def _drawn(panels: Panels, style: Style, limits: dict[bool, float]) -> go.Figure:
    side, rows = _side(len(panels[0]), style), len(panels)
    height = style.height
    # A column of paper is wide enough for 40 labels if the colour bars give way.
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
    """Lay the colour bars below the panels; returns the pixels that they take."""
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
    """Panels of a slide as high as wide, in the middle of the room there is."""
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
    """`original · random string` and its like -> `random-string`; `` if they share no name."""
    titles = {panel.title.rpartition(" · ")[2] for panel in column if " · " in panel.title}
    return re.sub(r"[^a-z0-9]+", "-", titles.pop().lower()).strip("-") if len(titles) == 1 else ""
