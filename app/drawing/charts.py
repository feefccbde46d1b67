"""Figures for the browser: without a template, so that Plotly draws them only once.

Streamlit gives Plotly each new figure twice, and Plotly redraws whatever it cannot compare:
templates and packed arrays always count as changed. So the settings of the template and of the
page's theme are written into the figure here.
"""

import re
import weakref
from base64 import b64decode
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from interp.style.palette import FONT
from interp.style.presets import on_dark

INK, FAINT, GROUND = ("#1F2328", "#E8E6E1"), ("#E3E3E3", "#3A3F47"), ("#FFFFFF", "#16181C")
"""Light and dark: text, lines of the grid, paper (`.streamlit/config.toml`)."""
CLICKED = {"clickmode": "event+select", "hovermode": "closest", "dragmode": "pan"}
"""Settings that the chart adds for selectable points; set here, they are no change."""
HELD = {"automargin": True, "ticklabeloverflow": "allow"}
"""Axis settings that skip measuring labels, because the margins fit them all."""
_SENT: dict[tuple, go.Figure] = {}
"""(identity of a figure, how it is shown) -> figure as sent, as long as the original lives."""
NUMBERED = re.compile(r"(xaxis|yaxis|coloraxis)\d*")


class Sent(go.Figure):
    """A figure as sent. Streamlit asks for its dict at every run of a page; it is made once."""

    def to_dict(self) -> dict:
        """The figure as plain values, with packed arrays; change neither."""
        kept = self.__dict__.get("_kept")
        if kept is None:
            kept = self.__dict__["_kept"] = super().to_dict()
        return kept


def on_page(figure: go.Figure, *, clicked: bool) -> go.Figure:
    """A figure in the type and colours of the open page; change neither figure afterwards.

    Args:
        figure: as `interp` draws it.
        clicked: whether its points can be selected.
    """
    dark = st.context.theme.type == "dark"

    def build() -> go.Figure:
        look = page_look(dark) | (CLICKED if clicked else {})
        return written_out(on_dark(figure) if dark else figure, look, {})

    return _kept(figure, build, dark, clicked)


def as_set(figure: go.Figure) -> go.Figure:
    """A styled figure with its template written out; change neither figure afterwards."""
    template = figure.layout.template.to_plotly_json()
    look = _over({"xaxis": HELD, "yaxis": HELD}, template.get("layout", {}))

    def build() -> go.Figure:
        return written_out(figure, look, template.get("data", {}))

    return _kept(figure, build)


def written_out(figure: go.Figure, look: dict, traces: dict[str, list[dict]]) -> go.Figure:
    """A copy of a figure without its template, with other settings as defaults.

    Args:
        figure: any figure.
        look: layout settings in template form; `xaxis` applies to all x axes.
        traces: kind of trace -> its settings in template form, a list of one.
    """
    whole = figure.to_plotly_json()
    layout = whole["layout"]
    # Plotly compares `meta` by identity, so it would draw the whole figure a second time.
    for unseen in ("template", "meta"):
        layout.pop(unseen, None)
    beneath = {name: part for name, part in look.items() if not name.endswith("defaults")}
    for name in layout:
        if (numbered := NUMBERED.fullmatch(name)) and numbered[1] in look:
            beneath[name] = look[numbered[1]]
    noted = look.get("annotationdefaults", {})
    layout["annotations"] = [_over(noted, note) for note in layout.get("annotations", ())]
    # A new figure always makes a new chart, so its arrays need no check for changes.
    layout = _over(beneath, layout) | {"datarevision": 1}
    data = [_over(traces.get(trace["type"], [{}])[0], _listed(trace)) for trace in whole["data"]]
    made = Sent(data, layout)
    made.layout.template = None
    return made


def page_look(dark: bool) -> dict:
    """The page's type and colours, as a template's layout."""
    ink, faint, ground = (pair[dark] for pair in (INK, FAINT, GROUND))
    axis = {
        **HELD,
        "gridcolor": faint,
        "zerolinecolor": faint,
        "tickcolor": faint,
    }
    title, font = {"font": {"size": 14}}, {"family": FONT, "size": 12, "color": ink}
    return {
        "font": font,
        "title": {"font": {"size": 16}, "xanchor": "left", "x": 0, "pad": {"l": 4}},
        "paper_bgcolor": ground,
        "plot_bgcolor": ground,
        "margin": {"pad": 8, "l": 0, "r": 0},
        "hoverlabel": {"bgcolor": ground, "bordercolor": faint, "font": font},
        "xaxis": axis | {"title": title | {"standoff": 20}, "showgrid": False, "zeroline": False},
        "yaxis": axis | {"title": title | {"standoff": 24}},
        "coloraxis": {"colorbar": {"thickness": 16, "len": 0.75, "outlinewidth": 0}},
    }


def _kept(figure: go.Figure, build: Callable[[], go.Figure], *shown: bool) -> go.Figure:
    key = (id(figure), *shown)
    made = _SENT.get(key)
    if made is None:
        made = _SENT[key] = build()
        weakref.finalize(figure, _SENT.pop, key, None)
    return made


def _over(default: dict, given: dict) -> dict:
    """`default` overridden by `given`."""
    return default | {
        key: _over(default[key], value)
        if isinstance(value, dict) and isinstance(default.get(key), dict)
        else value
        for key, value in given.items()
    }


def _listed(part):
    """Packed one-dimensional arrays as lists; two-dimensional ones are comparable as they are."""
    if not isinstance(part, dict):
        return part
    if "bdata" in part:
        packed = "shape" in part
        return part if packed else np.frombuffer(b64decode(part["bdata"]), part["dtype"]).tolist()
    return {key: _listed(value) for key, value in part.items()}
