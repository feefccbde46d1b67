"""Colours and type of every figure: one place, so that compared figures look alike.

Sequential and monotone in lightness for weights (it survives grey print), diverging and centred on
zero for differences, Okabe-Ito for lines: readable by the colour-blind.
"""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly import colors

from interp.text import label

# Magma, but its darkest colour moved: #000004 is one of the placeholders that Streamlit's theme
# paints over.
WEIGHTS = ["#05030f", *colors.sequential.Magma[1:]]
CHANGES, LOSSES = "RdBu", "RdBu_r"
"""Red is always attention lost: negative in suspect - original, positive in Δ_rel."""
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
"""What would vanish on a dark ground -> what stands in its place there."""


def plain(
    figure: go.Figure,
    height: int,
    *,
    left: int = 92,
    right: int = 20,
    top: int = 40,
    bottom: int = 76,
) -> go.Figure:
    """A figure in the house's type, with room for its axes.

    Margins grow with what stands in them, but then plotly draws all of it twice: it pays to give
    the room at once, for two digits and a title at least.

    Args:
        figure: changed in place, and given back.
        height: in pixels, as are the margins.
        left: margin.
        right: margin; a colour bar takes some 110.
        top: margin.
        bottom: margin; a legend below takes some 30 and 15 a line.
    """
    margin = {"l": left, "r": right, "t": top, "b": bottom}
    return figure.update_layout(height=height, font_family=FONT, margin=margin)


MOST = 45
"""Labels on an axis of a page."""


def token_axis(
    tokens: Sequence[str], positions: Sequence[int] | None = None, *, most: int = MOST
) -> dict:
    """Ticks of a plotly axis that stand for tokens.

    Args:
        tokens: as text or as shown (`tokens.display_token`); any text at all.
        positions: where they stand on the axis; 0, 1, 2 ... if None.
        most: of more tokens every other, third ... is named.
    """
    places = range(len(tokens)) if positions is None else list(positions)
    step = max(1, -(-len(tokens) // most))
    return {
        "tickmode": "array",
        "tickvals": list(places[::step]),
        "ticktext": [label(token) for token in tokens[::step]],
    }
