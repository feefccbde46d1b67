"""Scales of figures: shared between compared figures, and stated in words as drawn.

Captions read colours and axes from the final figure, not from its data, because a style may change
the layout and a comparison may change the limits.
"""

from base64 import b64decode
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from interp.text import unmarked

CLIP = "clip"
"""Key in `layout.meta`: the quantile of the cells at which the colour axes end."""
Limits = tuple[float, float]


def share_colours(figures: Sequence[go.Figure]) -> None:
    """Set the same colour scales on figures of one kind, in place.

    It matches the n-th map of every figure, colour axes by name, and points with a colour bar. Each
    scale runs from the smallest lower end to the largest upper end.
    """
    maps = [[trace for trace in figure.data if trace.type == "heatmap"] for figure in figures]
    for alike in zip(*maps, strict=False):
        own = [trace for trace in alike if trace.coloraxis is None and trace.zmin is not None]
        for trace in own:
            trace.update(zmin=min(t.zmin for t in own), zmax=max(t.zmax for t in own))
    points = [trace.marker for figure in figures for trace in figure.data if _has_bar(trace)]
    ends = [_marker_limits(marker) for marker in points]
    for marker in points:
        marker.update(cmin=min(low for low, _ in ends), cmax=max(high for _, high in ends))
    for name in _parts(figures, "coloraxis"):
        alike = [figure for figure in figures if name in figure.layout]
        axes = [figure.layout[name] for figure in alike]
        axes = [axis for axis in axes if axis.cmin is not None]
        ends = {(axis.cmin, axis.cmax) for axis in axes}
        for axis in axes:
            axis.update(cmin=min(low for low, _ in ends), cmax=max(high for _, high in ends))
        if len(ends) > 1:  # the shared end is no longer the quantile of any of them
            for figure in alike:
                figure.layout.meta = None


def share_axes(figures: Sequence[go.Figure]) -> None:
    """Set the same axis ranges on figures of one kind, in place.

    Only numeric axes without a fixed range change.
    """
    for letter in "xy":
        for name in _parts(figures, f"{letter}axis"):
            _share_axis(figures, letter, name)


def sentence(figures: Sequence[go.Figure]) -> str:
    """The colour limits of these parts of one figure, as a sentence; empty if there are none."""
    ends = colours(figures)
    if not ends:
        return ""
    scales = ", ".join(f"{name} from {_range(limits)}" for name, limits in ends.items())
    clips = {(figure.layout.meta or {}).get(CLIP) for figure in figures}
    clip = clips.pop() if len(clips) == 1 else None
    at = f", at the {clip:.1%} quantile of all cells" if clip else ""
    beyond = "; what lies beyond is drawn as the end" if any(map(_clipped, figures)) else ""
    return f"Colours: {scales}{at}{beyond}."


def colours(figures: Sequence[go.Figure]) -> dict[str, Limits]:
    """Title of each colour bar -> its limits, for figures that share them."""
    found: dict[str, Limits] = {}
    for figure in figures:
        for trace in figure.data:
            scale = _colours_of(figure, trace)
            if scale is not None:
                title, (low, high) = scale
                before = found.get(title, (low, high))
                found[title] = min(low, before[0]), max(high, before[1])
    return found


def shared_sentence(figures: Sequence[go.Figure], others: Sequence[go.Figure], name: str) -> str:
    """A sentence on which scales two figures share and which not; empty if they have none.

    Args:
        figures: the parts of one figure.
        others: the matching parts of the other figure, in the same order.
        name: name of the other figure.
    """
    same, own = [], []
    mine, theirs = colours(figures), colours(others)
    if mine or theirs:
        (same if mine == theirs else own).append("colours")
    for letter, word in (("x", "horizontal axis"), ("y", "vertical axis")):
        pairs = zip(figures, others, strict=False)
        found = [_one_axis(one, other, letter) for one, other in pairs]
        found = [pair for pairs in found for pair in pairs]
        if not found:
            continue
        shared = len(figures) == len(others) and all(a == b and a is not None for a, b in found)
        limits = {a for a, _ in found if a is not None}
        sentence = f"{word} ({_range(limits.pop())})" if shared and len(limits) == 1 else word
        (same if shared else own).append(sentence)
    parts = [f"the same as of '{name}': {', '.join(same)}"] if same else []
    parts += [f"not the same: {', '.join(own)}"] if own else []
    return f"Scales {'; '.join(parts)}." if parts else ""


def _one_axis(
    figure: go.Figure, other: go.Figure, letter: str
) -> list[tuple[Limits | None, Limits | None]]:
    """Limits in both figures of each numeric axis that either has; None where it is missing."""
    pairs = []
    for name in sorted(_parts([figure, other], f"{letter}axis")):
        if any(_extent(one, letter, name) for one in (figure, other)):
            pairs.append((_limits(figure, name), _limits(other, name)))
    return pairs


def _limits(figure: go.Figure, name: str) -> Limits | None:
    """Limits of an axis in data units; None if the browser decides."""
    axis = figure.layout[name] if name in figure.layout else None
    if axis is None or axis.range is None:
        return None
    low, high = (float(end) for end in axis.range)
    return (10**low, 10**high) if axis.type == "log" else (low, high)


def _colours_of(figure: go.Figure, trace) -> tuple[str, Limits] | None:
    """Title and limits of a trace's colour scale; None if its colours do not encode numbers."""
    if trace.type == "heatmap" and trace.coloraxis is not None:
        axis = figure.layout[trace.coloraxis]
        return _title(axis.colorbar), (float(axis.cmin), float(axis.cmax))
    if trace.type == "heatmap":
        ends = trace.zmin, trace.zmax
        ends = ends if ends[0] is not None else _ends(trace.z)
        return _title(trace.colorbar), (float(ends[0]), float(ends[1]))
    if _has_bar(trace):
        return _title(trace.marker.colorbar), _marker_limits(trace.marker)
    return None


def _clipped(figure: go.Figure) -> bool:
    """Whether any cell's value is outside the colour limits."""
    for trace in figure.data:
        if trace.type == "heatmap":
            _, (low, high) = _colours_of(figure, trace)
            ends, slack = _ends(trace.z), 1e-6 * (high - low)  # cells are kept in float32
            if ends[0] < low - slack or ends[1] > high + slack:
                return True
    return False


def _ends(values) -> Limits:
    if isinstance(values, dict):  # packed, as in a copied figure
        values = np.frombuffer(b64decode(values["bdata"]), values["dtype"])
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    return (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 0.0)


def _has_bar(trace) -> bool:
    """Whether a trace's points are coloured by a number and have a colour bar."""
    if trace.type != "scatter" or isinstance(trace.marker.color, str | None):
        return False
    return trace.marker.colorbar.title.text is not None


def _marker_limits(marker) -> Limits:
    if marker.cmin is not None:
        return float(marker.cmin), float(marker.cmax)
    return _ends(marker.color)


def _title(bar) -> str:
    return unmarked(bar.title.text or "value")


def _range(limits: Limits) -> str:
    return " to ".join(f"{end:.3g}".replace("-", "−") for end in limits)


def _share_axis(figures: Sequence[go.Figure], letter: str, name: str) -> None:
    alike = [figure for figure in figures if name in figure.layout]
    axes = [figure.layout[name] for figure in alike]
    if any(axis.range is not None or axis.autorange == "reversed" for axis in axes):
        return
    ends = [_extent(figure, letter, name) for figure in alike]
    if any(end is None for end in ends):
        return
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    logarithmic = axes[0].type == "log"
    if logarithmic and low <= 0:
        return
    if logarithmic:
        low, high = np.log10(low), np.log10(high)
    if not logarithmic and axes[0].rangemode == "tozero":
        low = min(low, 0.0)
    room = 0.04 * (high - low) or 0.5
    at_zero = not logarithmic and axes[0].rangemode == "tozero" and low == 0.0
    for axis in axes:
        axis.range = [low if at_zero else low - room, high + room]


def _parts(figures: Sequence[go.Figure], kind: str) -> set[str]:
    """Names of axes of this kind in any of the figures."""
    return {name for figure in figures for name in figure.layout if name.startswith(kind)}


def _extent(figure: go.Figure, letter: str, axis: str) -> Limits | None:
    """Smallest and largest number drawn on an axis; None if it is empty or not numeric."""
    short = axis.replace("axis", "")
    values = []
    for trace in figure.data:
        if trace.type not in ("scatter", "bar") or (trace[f"{letter}axis"] or letter) != short:
            continue
        data = np.asarray(trace[letter])
        if data.dtype.kind not in "fiu":
            return None
        values.append(data[np.isfinite(data)].astype(float))
        if trace.type == "bar" and letter == ("x" if trace.orientation == "h" else "y"):
            values.append(np.zeros(1))
    if figure.layout.barmode in ("relative", "stack"):
        values += _stacked(figure, letter, short)
    whole = np.concatenate(values) if values else np.empty(0)
    return (float(whole.min()), float(whole.max())) if len(whole) else None


def _stacked(figure: go.Figure, letter: str, short: str) -> list[np.ndarray]:
    """Extent of stacked bars: the sums of the positive and of the negative values."""
    reach: dict[tuple, float] = {}
    across = "y" if letter == "x" else "x"
    for trace in figure.data:
        along = "x" if trace.type == "bar" and trace.orientation == "h" else "y"
        if trace.type != "bar" or along != letter or (trace[f"{letter}axis"] or letter) != short:
            continue
        for place, value in zip(trace[across], np.asarray(trace[letter], float), strict=True):
            if np.isfinite(value):
                reach[place, value > 0] = reach.get((place, value > 0), 0.0) + float(value)
    return [np.array(list(reach.values()))] if reach else []
