"""Figures that are compared on one scale: colours and axes of several made to agree."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go


def share_scales(figures: Sequence[go.Figure]) -> None:
    """Give figures of one kind the same colour scales and the same ranges of values, in place.

    Colours: the n-th map of every figure, and colour axes of one name, from the smallest lower end
    to the largest upper one. Axes: those that hold numbers and were not given a range.
    """
    maps = [[trace for trace in figure.data if trace.type == "heatmap"] for figure in figures]
    for alike in zip(*maps, strict=False):
        own = [trace for trace in alike if trace.coloraxis is None and trace.zmin is not None]
        for trace in own:
            trace.update(zmin=min(t.zmin for t in own), zmax=max(t.zmax for t in own))
    for name in _parts(figures, "coloraxis"):
        axes = [figure.layout[name] for figure in figures if name in figure.layout]
        axes = [axis for axis in axes if axis.cmin is not None]
        for axis in axes:
            axis.update(cmin=min(a.cmin for a in axes), cmax=max(a.cmax for a in axes))
    for letter in "xy":
        _share_axes(figures, letter)


def _share_axes(figures: Sequence[go.Figure], letter: str) -> None:
    for name in _parts(figures, f"{letter}axis"):
        alike = [figure for figure in figures if name in figure.layout]
        axes = [figure.layout[name] for figure in alike]
        if any(axis.range is not None or axis.autorange == "reversed" for axis in axes):
            continue
        ends = [_extent(figure, letter, name) for figure in alike]
        if any(end is None for end in ends):
            continue
        low, high = min(end[0] for end in ends), max(end[1] for end in ends)
        logarithmic = axes[0].type == "log"
        if logarithmic and low <= 0:
            continue
        if logarithmic:
            low, high = np.log10(low), np.log10(high)
        if not logarithmic and axes[0].rangemode == "tozero":
            low = min(low, 0.0)
        room = 0.04 * (high - low) or 0.5
        at_zero = not logarithmic and axes[0].rangemode == "tozero" and low == 0.0
        for axis in axes:
            axis.range = [low if at_zero else low - room, high + room]


def _parts(figures: Sequence[go.Figure], kind: str) -> set[str]:
    """Names of axes of a kind in any of the figures."""
    return {name for figure in figures for name in figure.layout if name.startswith(kind)}


def _extent(figure: go.Figure, letter: str, axis: str) -> tuple[float, float] | None:
    """Smallest and largest number drawn on an axis; None if it holds something else, or nothing."""
    short = axis.replace("axis", "")
    values = []
    for trace in figure.data:
        if trace.type not in ("scatter", "bar") or (trace[f"{letter}axis"] or letter) != short:
            continue
        if trace.type == "bar" and figure.layout.barmode in ("relative", "stack"):
            return None  # bars on bars reach further than their numbers
        data = np.asarray(trace[letter])
        if data.dtype.kind not in "fiu":
            return None
        values.append(data[np.isfinite(data)].astype(float))
        if trace.type == "bar" and letter == ("x" if trace.orientation == "h" else "y"):
            values.append(np.zeros(1))
    whole = np.concatenate(values) if values else np.empty(0)
    return (float(whole.min()), float(whole.max())) if len(whole) else None
