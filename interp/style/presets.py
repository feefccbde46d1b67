"""Styles of exported figures: a style sets the size, type and colours of any plotly figure.

Independent of runs and browsers. Sizes are CSS pixels, 96 per inch.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase

import plotly.graph_objects as go
from plotly import colors, io

from interp.errors import UsageError
from interp.style.palette import BLANK_ON_DARK, ON_DARK, SCALES_ON_DARK

MM = 96 / 25.4
"""Pixels per millimetre."""
FAMILY = "Sleeperscope Sans, Sleeperscope Signs, Source Sans, Source Sans Pro, Arial, sans-serif"
UNITS = {"mm": MM, "cm": 10 * MM, "in": 96.0, "pt": 96 / 72, "px": 1.0}
SMALLEST, LARGEST = 40 * MM, 1000 * MM
DRAWN_AT = 720.0
"""Width of a figure on a page, pixels; its height is designed for this width."""
_WIDTH = re.compile(r"^\s*([+-]?\d+(?:\.\d*)?)\s*([a-z]*)\s*$", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class Style:
    """Size, type sizes and ground of a figure."""

    name: str
    width: float
    """Pixels."""
    font: float
    """Type size of titles, pixels; all other text uses `small`."""
    small: float
    pitch: float
    """Least distance between token labels, pixels; below it the type is unreadable."""
    height: float | None = None
    """Pixels, if the style fixes it; else None."""
    dark: bool = False


PRESETS = {
    "paper": Style("paper", 85 * MM, 10.0, 9.0, 6.7),
    "slide": Style("slide", 1280.0, 22.0, 18.0, 9.5, 720.0),
    "web": Style("web", 900.0, 14.0, 12.0, 8.0),
}
"""Paper: one column of a journal, 7.5 and 6.8 points, token labels of 5. Slide: 16:9."""
COLUMN_WIDTHS = {"one column": "85mm", "two columns": "170mm"}


def style_of(name: str, width: str | None = None, *, dark: bool = False) -> Style:
    """A preset style, optionally with another width.

    Args:
        name: `paper`, `slide` or `web`.
        width: such as `85mm`, `17cm`, `3.3in`, `900px`; the preset's own if None. A slide stays
            16:9 and its type grows with it.
        dark: use a dark ground.

    Raises:
        UsageError: the style is unknown or the width is invalid.
    """
    if name not in PRESETS:
        raise UsageError(f"style '{name}' is not known: choose one of {', '.join(PRESETS)}")
    style = replace(PRESETS[name], dark=dark)
    if width is None:
        return style
    pixels = parse_width(width)
    if style.height is None:
        return replace(style, width=pixels)
    by = pixels / style.width
    return replace(
        style,
        width=pixels,
        height=style.height * by,
        font=style.font * by,
        small=style.small * by,
        pitch=style.pitch * by,
    )


def parse_width(text: str) -> float:
    """`85mm` -> pixels.

    Raises:
        UsageError: not a number with a unit, not above zero, or outside the range for a figure.
    """
    match = _WIDTH.match(text)
    if not match:
        raise UsageError(f"width '{text}' is none: write a number and a unit, such as 85mm")
    unit = match[2].lower()
    if unit not in UNITS:
        what = f"the unit '{match[2]}' is not known" if unit else "it has no unit"
        raise UsageError(f"width '{text}': {what}; write mm, cm, in, pt or px, such as 85mm")
    pixels = float(match[1]) * UNITS[unit]
    if pixels <= 0:
        raise UsageError(f"width '{text}' must be above zero")
    if not SMALLEST <= pixels <= LARGEST:
        raise UsageError(f"width '{text}' is outside 40mm to 1000mm, where a figure can be read")
    return pixels


def lettered(parts: Mapping[str, go.Figure], style: Style) -> dict[str, go.Figure]:
    """The parts of one figure in a style; for paper with a letter at each of several panels.

    Args:
        parts: name of the part -> figure as the app draws it.
        style: as in `styled`.

    Returns:
        Name of the part -> a copy in the style. Letters run on from part to part.
    """
    done = {name: styled(figure, style) for name, figure in parts.items()}
    titles = [note for one in done.values() for note in one.layout.annotations if _is_title(note)]
    if style.name == "paper" and 1 < len(titles) <= len(ascii_lowercase):
        for letter, note in zip(ascii_lowercase, titles, strict=False):
            note.text = f"<b>{letter}</b>\u2002{note.text}"
    return done


def styled(figure: go.Figure, style: Style) -> go.Figure:
    """A copy of a figure in a style: nothing is clipped, one typeface, maps sharp in print.

    Args:
        figure: as the app draws it.
        style: size, type and colours to set.
    """
    seen = [trace for trace in figure.data if not _only_for_clicks(trace)]
    figure = go.Figure(seen, figure.layout)
    height = style.height or _height(figure, style)
    ground, ink = ("#14171c", "#e6e6e6") if style.dark else ("#ffffff", "#1c1c1c")
    figure.update_layout(
        template=io.templates["plotly_dark" if style.dark else "plotly_white"],
        width=round(style.width),
        height=round(height),
        paper_bgcolor=ground,
        plot_bgcolor=ground,
        font={"family": FAMILY, "size": style.small, "color": ink},
        margin={"l": 8, "r": 8, "t": style.small, "b": 8, "pad": 0},
    )
    _set_title(figure, style)
    _set_axes(figure, style, ink)
    _set_colour_bars(figure, style, height)
    _set_legend(figure, style)
    for note in figure.layout.annotations:
        note.font.size = style.font if _is_title(note) else style.small
        note.font.family = FAMILY
    _sharpen(figure, ground)
    _thicken(figure, style.small / 12)
    return on_dark(figure) if style.dark else figure


def _is_title(note) -> bool:
    """Whether an annotation is the title of a panel."""
    return note.yref == "paper" and note.yanchor == "bottom"


def _only_for_clicks(trace) -> bool:
    """Whether a trace is the invisible markers over a map, which an image does not need."""
    return trace.type == "scatter" and trace.marker.opacity == 0


def _height(figure: go.Figure, style: Style) -> float:
    """Height that keeps the proportions, plus room for type and legend, which do not shrink."""
    drawn = figure.layout.height or 450
    if figure.layout.width:  # it was laid out for exactly this width
        return drawn
    plain = drawn * min(1.0, style.width / DRAWN_AT)
    least = 0.62 * style.width if style.width < DRAWN_AT else drawn
    rows = [len(set(t.y)) for t in figure.data if t.type == "bar" and t.orientation == "h"]
    least = max([least, *((1.5 * n + 5) * style.small for n in rows)])
    return max(plain, least) + _legend_rows(figure, style) * 1.7 * style.small


def _legend_rows(figure: go.Figure, style: Style) -> int:
    """Number of rows of a horizontal legend below the plot, from the length of its names."""
    if not _has_legend(figure) or figure.layout.legend.orientation != "h":
        return 0
    names = [trace.name or "" for trace in figure.data if trace.showlegend is not False]
    widest = max((len(_TAG.sub("", name)) for name in names), default=0) * 0.5 * style.small
    fitting = max(1, int(style.width // (widest + 5 * style.small)))
    return math.ceil(len(names) / fitting)


def _has_legend(figure: go.Figure) -> bool:
    wanted = [trace for trace in figure.data if trace.showlegend is not False and trace.name]
    return figure.layout.showlegend is not False and (
        len(wanted) > 1 or any(trace.showlegend for trace in wanted)
    )


def _set_title(figure: go.Figure, style: Style) -> None:
    title = figure.layout.title
    if title.text:
        title.text = wrapped(title.text, style.width / (0.52 * style.font))
        title.update(font={"size": style.font}, automargin=True, yref="container", y=0.99)
        title.update(yanchor="top", x=0.5, xanchor="center", pad={"b": style.small})
    elif any(map(_is_title, figure.layout.annotations)):
        figure.layout.margin.t = 1.9 * style.font  # titles of panels


def _set_axes(figure: go.Figure, style: Style, ink: str) -> None:
    faint = "#3a3f47" if style.dark else "#e3e3e3"
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        own = axis.tickfont.size
        axis.update(automargin=True, color=ink, gridcolor=faint, zerolinecolor=faint)
        axis.zerolinewidth = 1
        # A figure's own type size is for a page; type that is smaller there stays smaller.
        axis.tickfont.size = style.small * min(1.0, own / 12) if own else style.small
        axis.title.update(font={"size": style.small}, standoff=0.5 * style.small)


def _set_colour_bars(figure: go.Figure, style: Style, height: float) -> None:
    bars = [
        trace.colorbar
        for trace in figure.data
        if trace.type == "heatmap" and trace.showscale is not False and not trace.coloraxis
    ]
    bars += [
        trace.marker.colorbar
        for trace in figure.data
        if trace.type == "scatter" and trace.marker.colorbar.title.text
    ]
    bars += [figure.layout[name].colorbar for name in _colour_axes(figure)]
    alone = len(bars) == 1
    for bar in bars:
        bar.update(thickness=1.1 * style.small, outlinewidth=0, tickfont={"size": style.small})
        bar.title.font.size = style.small
        if bar.orientation == "h":
            continue
        if alone:
            bar.update(len=1.0, y=0.5)
        length = (bar.len or 1.0) * 0.8 * height
        text = wrapped(bar.title.text or "", length / (0.5 * style.small))
        bar.update(xpad=0.6 * style.small, title={"text": text, "side": "right"})


def _colour_axes(figure: go.Figure) -> Iterator[str]:
    used = {trace.coloraxis for trace in figure.data if trace.type == "heatmap"}
    return (name for name in figure.layout if name in used)


def _set_legend(figure: go.Figure, style: Style) -> None:
    legend = figure.layout.legend
    legend.font.size = style.small
    legend.bgcolor = "rgba(0,0,0,0)"
    if legend.orientation == "h":  # below everything, where it covers nothing
        legend.update(yref="container", y=0.005, yanchor="bottom", xref="container", x=0.5)
        legend.update(xanchor="center", entrywidth=0)


def _sharpen(figure: go.Figure, ground: str) -> None:
    """Remove gaps from heatmaps: plotly then draws one pixel per cell, sharp at any size.

    With gaps, plotly renders at screen resolution, which blurs in print. Lines replace the gaps.
    """
    lines = []
    for trace in figure.data:
        if trace.type == "heatmap" and (trace.xgap or trace.ygap):
            n_rows, n_columns = len(trace.z), len(trace.z[0])
            trace.xgap = trace.ygap = 0
            line = {"color": ground, "width": 1}
            places = {"type": "line", "line": line, "layer": "above"}
            places |= {"xref": trace.xaxis or "x", "yref": trace.yaxis or "y"}
            # Names stand at 0, 1, 2 …
            x, y = (0 if isinstance(one[0], str) else one[0] for one in (trace.x, trace.y))
            x0, x1 = x - 0.5, x + n_columns - 0.5
            y0, y1 = y - 0.5, y + n_rows - 0.5
            lines += [
                {**places, "x0": x0 + i, "x1": x0 + i, "y0": y0, "y1": y1}
                for i in range(1, n_columns)
            ]
            lines += [
                {**places, "x0": x0, "x1": x1, "y0": y0 + i, "y1": y0 + i} for i in range(1, n_rows)
            ]
    if lines:
        figure.layout.shapes = (*lines, *figure.layout.shapes)


def _thicken(figure: go.Figure, by: float) -> None:
    """Scale lines and markers with the type size."""
    for trace in figure.data:
        if trace.type == "scatter":
            trace.line.width = (2 if trace.line.width is None else trace.line.width) * by
            if not isinstance(trace.marker.size, list | tuple):
                trace.marker.size = (trace.marker.size or 6) * by
    for shape in figure.layout.shapes:
        shape.line.width = (2 if shape.line.width is None else shape.line.width) * by


def on_dark(figure: go.Figure) -> go.Figure:
    """A copy of the figure with other colours where they would not be seen on a dark ground.

    In a map zero is black, and cells that cannot be are grey.
    """

    def exchanged(value):
        if isinstance(value, dict):
            return {
                key: exchanged(part) if key != "template" else part for key, part in value.items()
            }
        if isinstance(value, list | tuple) and len(value) < 64:
            return [exchanged(part) for part in value]
        return ON_DARK.get(value, value) if isinstance(value, str) else value

    whole = figure.to_dict()
    scales = {"colorscale"}
    for trace in whole["data"]:
        kept = {key: _scale_on_dark(trace[key]) for key in scales & set(trace)}
        trace |= exchanged({key: part for key, part in trace.items() if key not in scales}) | kept
    layout = whole["layout"]
    for name, part in layout.items():
        if name not in ("template", "paper_bgcolor", "plot_bgcolor") and not name.startswith(
            "coloraxis"
        ):
            layout[name] = exchanged(part)
        elif "colorscale" in part:
            layout[name] = part | {"colorscale": _scale_on_dark(part["colorscale"])}
    if any(trace["type"] == "heatmap" for trace in whole["data"]):
        layout["plot_bgcolor"] = BLANK_ON_DARK
    return go.Figure(whole, skip_invalid=True)


def _scale_on_dark(scale: Sequence) -> Sequence:
    """The scale of the same meaning for a dark ground."""
    own = [colour for _, colour in scale]
    for name, instead in SCALES_ON_DARK.items():
        if own == [colour for _, colour in colors.get_colorscale(name)]:
            return colors.make_colorscale(instead)
    return scale


def wrapped(text: str, letters: float) -> str:
    """Our own text broken into lines of at most `letters` characters."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if lines[-1] and len(_TAG.sub("", joined)) > letters:
            lines.append(word)
        else:
            lines[-1] = joined
    return "<br>".join(lines)
