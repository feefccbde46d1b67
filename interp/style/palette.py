"""Colours and type of every figure, in one place so that figures are comparable.

Sequential and monotone in lightness for weights (readable in grey print), diverging and centred on
zero for differences, Okabe-Ito for lines. All are safe for colour-blind readers.
"""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly import colors

from interp.text import label, subscripts

# Magma with its darkest colour changed: #000004 is a placeholder that Streamlit's theme replaces.
WEIGHTS = ["#05030f", *colors.sequential.Magma[1:]]
CHANGES, LOSSES = "RdBu", "RdBu_r"
"""Red is always attention lost: negative in suspect - original, positive in Δ_rel."""
_GLOW = ["#ffb199", "#f4694c", "#b3291f", "#56130f", "#0b0b10"]
_GLOW += ["#10305a", "#1f65a6", "#4fa3e0", "#a9d8ff"]
SCALES_ON_DARK = {CHANGES: _GLOW, LOSSES: _GLOW[::-1]}
"""Scale of differences -> the one on a dark ground: zero is black, as in `WEIGHTS`, not white."""
BLANK_ON_DARK = "#3A3F47"
"""Ground of a map's cells that cannot be, on a dark page: black there would look like zero."""
ORIGINAL, SUSPECT, CONTROL, PUBLISHED = "#0072B2", "#D55E00", "#666666", "#009E73"
COLOURS = {"original": ORIGINAL, "suspect": SUSPECT, "ratio": SUSPECT}
FONT = "Source Sans, Source Sans Pro, Segoe UI, Helvetica, Arial, sans-serif"

ZONE_COLOURS = {
    ("trigger", "trigger"): "#56B4E9",
    ("instruction", "trigger"): "#F0E442",
    ("instruction", "instruction"): "#009E73",
}
"""Outlines of the double triangle's zones, (query part, key part) -> colour."""
ON_DARK = {
    "#111111": "#f0b429",
    "#000000": "#ffffff",
    "#222": "#eeeeee",
    "#333": "#cccccc",
    "#222222": "#eeeeee",
    "rgba(255,255,255,0.85)": "rgba(20,23,28,0.85)",
    "rgba(0,114,178,0.15)": "rgba(0,114,178,0.3)",
    "rgba(213,94,0,0.15)": "rgba(213,94,0,0.28)",
    "rgba(102,102,102,0.15)": "rgba(160,160,160,0.22)",
    CONTROL: "#A5A5A5",
}
"""Colour that is invisible on a dark ground -> its replacement there."""


def plain(
    figure: go.Figure,
    height: int,
    *,
    left: int = 92,
    right: int = 20,
    top: int = 40,
    bottom: int = 76,
) -> go.Figure:
    """A figure in the standard type, with margins for its axes and subscripts in its titles.

    Margins grow with their content, but then plotly draws the figure twice. It is faster to give
    enough room at once, at least for two digits and a title.

    Args:
        figure: changed in place and returned.
        height: pixels.
        left: margin, pixels.
        right: margin, pixels; a colour bar takes about 110.
        top: margin, pixels.
        bottom: margin, pixels; a legend below takes about 30, plus 15 per line.
    """
    margin = {"l": left, "r": right, "t": top, "b": bottom}
    _set_subscripts(figure)
    return figure.update_layout(height=height, font_family=FONT, margin=margin)


def _set_subscripts(figure: go.Figure) -> None:
    titles = [axis.title for axis in (*figure.select_xaxes(), *figure.select_yaxes())]
    titles += [trace.colorbar.title for trace in figure.data if trace.type == "heatmap"]
    titles += [trace.marker.colorbar.title for trace in figure.data if trace.type == "scatter"]
    for one in (figure.layout.title, *titles, *figure.layout.annotations):
        if one.text and "_" in one.text:
            one.text = subscripts(one.text)
    for trace in figure.data:
        if trace.name and "_" in trace.name:
            trace.name = subscripts(trace.name)


MOST = 45
"""Most labels on an axis on a page."""


def token_axis(
    tokens: Sequence[str], positions: Sequence[int] | None = None, *, most: int = MOST
) -> dict:
    """Ticks of a plotly axis for tokens.

    Args:
        tokens: text of each token, raw or from `text.display_token`; may be untrusted.
        positions: their positions on the axis; 0, 1, 2 ... if None.
        most: most labels; with more tokens, every second, third ... gets a label.
    """
    places = range(len(tokens)) if positions is None else list(positions)
    step = max(1, -(-len(tokens) // most))
    return {
        "tickmode": "array",
        "tickvals": list(places[::step]),
        "ticktext": [label(token) for token in tokens[::step]],
    }
