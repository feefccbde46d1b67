"""Averaged maps in rows and columns of panels, on shared scales, with zones outlined.

Arrays in, a plotly figure out. Independent of models, runs and the app.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.style.palette import CHANGES, FONT, MOST, WEIGHTS, ZONE_COLOURS, token_axis
from interp.style.presets import DRAWN_AT
from interp.style.scales import CLIP
from interp.text import label, subscripts

BESIDE, BELOW = 0.27, 0.17
"""Gap between panels for labels and titles: a share of the figure, over the number of panels."""
QUANTILE = 0.995
"""Colours saturate at this quantile, so that one bright cell does not darken all others."""


@dataclass(frozen=True)
class Panel:
    """One averaged map to draw."""

    title: str
    values: np.ndarray
    """[query, key]."""
    parts: tuple[str, ...]
    labels: tuple[str, ...]
    note: str = ""
    """Text in the panel, such as its L_attn."""
    difference: bool = False
    """Whether it is a difference: diverging colours centred on zero, not sequential ones."""


LABEL_SIZE = (9.0, 12.0)
"""Smallest and largest type size of token labels on a page, pixels."""
PITCH = 1.15
"""Distance between labels, as a multiple of their type size."""
MARGINS = 100
"""Margins left and right of the panels together, pixels."""


def map_grid(
    panels: Sequence[Sequence[Panel | None]],
    *,
    side: float = 300,
    labels: int = MOST,
    label_size: float | None = None,
    limits: dict[bool, float] | None = None,
) -> go.Figure:
    """Averaged maps in rows and columns. All weights share one scale, all differences another.

    Args:
        panels: rows of panels; None leaves a cell empty.
        side: side of one panel, pixels.
        labels: most labels per axis; with more tokens, every second, third ... gets a label.
        label_size: type size of the labels, pixels; by default what fits on a page.
        limits: `colour_limits` of the whole figure, if these panels are one part of it.

    Returns:
        A figure with queries as rows from the top and keys as columns from the left. The three
        zones of the double triangle are outlined. `scales.sentence` states where its colours end.
    """
    n_rows, n_cols = len(panels), max(len(row) for row in panels)
    flat = [panel for row in panels for panel in row if panel is not None]
    across, down = _domains(n_cols, BESIDE / n_cols), _domains(n_rows, BELOW / n_rows)[::-1]
    size, most = label_size, (labels, labels)
    if size is None:  # on a page, where panels may be too small for this many labels
        size = _label_size(flat, side, n_cols)
        wide = (across[0][1] - across[0][0]) * (DRAWN_AT - MARGINS)
        most = tuple(min(labels, int(room / (PITCH * size))) for room in (wide, side))
    data, layout, shapes, notes = [], {}, [], []
    for r, row in enumerate(panels):
        for c, panel in enumerate(row):
            if panel is None:
                continue
            number = "" if not data else str(len(data) + 1)
            x, y = f"x{number}", f"y{number}"
            data.append(_heatmap(panel, x, y))
            below = r == n_rows - 1 or panels[r + 1][c] is None
            axes = _axes(panel, most, size)
            place = {"domain": across[c], "anchor": y, "showticklabels": below}
            layout[f"xaxis{number}"] = axes[0] | place
            layout[f"yaxis{number}"] = axes[1] | {"domain": down[r], "anchor": x}
            shapes += _zone_outlines(panel.parts, x, y)
            notes += [_title(panel.title, across[c], down[r]), *_notes(panel, x, y)]
    # Built in one step: plotly checks the whole figure whenever something is added.
    return go.Figure(
        data,
        layout
        | _colour_axes(limits or colour_limits(panels))
        | {
            "meta": {CLIP: QUANTILE},
            "shapes": shapes,
            "annotations": notes,
            "height": n_rows * (side + 40) + 120,
            "margin": {"l": 80, "r": 20, "t": 40, "b": 90},
            "font": {"family": FONT},
            "plot_bgcolor": "rgba(0,0,0,0)",
        },
    )


def panel_table(panels: Sequence[Sequence[Panel | None]]) -> pd.DataFrame:
    """Tidy data of a `map_grid`: `panel, query, key, query_label, key_label, weight`."""
    frames = []
    for panel in (p for row in panels for p in row if p is not None):
        query, key = (index.ravel() for index in np.indices(panel.values.shape))
        labels = np.array(panel.labels, dtype=object)
        frame = pd.DataFrame({"panel": panel.title, "query": query, "key": key})
        frame["query_label"], frame["key_label"] = labels[query], labels[key]
        frame["weight"] = panel.values.ravel()
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def colour_limits(panels: Sequence[Sequence[Panel | None]]) -> dict[bool, float]:
    """Largest magnitude among the weights (False) and among the differences (True).

    A quantile, so that a single bright cell does not set the scale.
    """
    flat = [panel for row in panels for panel in row if panel is not None]
    scales = {}
    for difference in (False, True):
        values = [np.abs(p.values).ravel() for p in flat if p.difference == difference]
        top = float(np.quantile(np.concatenate(values), QUANTILE)) if values else 0.0
        scales[difference] = top or 1.0
    return scales


def _label_size(panels: Sequence[Panel], side: float, n_cols: int) -> float:
    """The largest type size at which lines do not touch and the longest label fits, pixels."""
    longest = max(len(label) for panel in panels for label in panel.labels)
    beside = BESIDE / n_cols * DRAWN_AT
    room = min(0.6 * side / max(len(panel.parts) for panel in panels), beside / (0.6 * longest))
    return min(max(room, LABEL_SIZE[0]), LABEL_SIZE[1])


def _domains(n: int, gap: float) -> list[tuple[float, float]]:
    """Start and end of n panels as shares of the figure, with `gap` between them."""
    size = (1 - gap * (n - 1)) / n
    starts = [i * (size + gap) for i in range(n)]
    return [(start, min(start + size, 1.0)) for start in starts]


def _heatmap(panel: Panel, x: str, y: str) -> dict:
    side = len(panel.parts)
    # Attention is causal, so cells above the diagonal stay blank: a weight of zero has a colour.
    ahead = np.triu(np.ones((side, side), bool), 1)
    names = _names(panel)
    return {
        "type": "heatmap",
        "z": np.where(ahead, np.nan, panel.values).astype(np.float32),
        "x": names,
        "y": names,
        "coloraxis": "coloraxis2" if panel.difference else "coloraxis",
        "hovertemplate": "%{y} looks at %{x}<br>%{z:.4f}<extra></extra>",
        "xaxis": x,
        "yaxis": y,
    }


def _names(panel: Panel) -> list[str]:
    """Each token with its number, for the hover text; the axis may label fewer tokens."""
    return [f"{i} {label(text)}" for i, text in enumerate(panel.labels)]


def _axes(panel: Panel, most: tuple[int, int], size: float) -> tuple[dict, dict]:
    """The x and y axis of one panel, with at most `most` labels each."""
    side = len(panel.parts)
    axis = {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": _names(panel),
        "tickfont": {"size": size},
        "showgrid": False,
        "zeroline": False,
    }
    right, down = (token_axis(panel.labels, most=count) for count in most)
    return (
        axis | right | {"tickangle": -90, "range": (-0.5, side - 0.5)},
        axis | down | {"range": (side - 0.5, -0.5)},
    )


def _title(text: str, across: tuple[float, float], down: tuple[float, float]) -> dict:
    return {
        "text": text,
        "x": sum(across) / 2,
        "y": down[1],
        "xref": "paper",
        "yref": "paper",
        "xanchor": "center",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 16},
    }


def _notes(panel: Panel, x: str, y: str) -> list[dict]:
    """The note where no token can look, and where it crosses no frame of a zone."""
    if not panel.note:
        return []
    order, right = list(panel.parts), 1.0
    if "trigger" in order:
        end = order.index("trigger") + order.count("trigger")
        beside = len(order) - end  # above the instruction's triangle; or inside the trigger's
        right = 1.0 if beside >= order.count("trigger") else end / len(order)
    return [
        {
            "text": subscripts(panel.note.replace("L_attn ", "L_attn<br>")),
            "align": "right",
            "x": right - 0.02,
            "y": 0.98,
            "xref": f"{x} domain",
            "yref": f"{y} domain",
            "xanchor": "right",
            "yanchor": "top",
            "showarrow": False,
            "bgcolor": "rgba(255,255,255,0.85)",
            "font": {"size": 12, "color": "#222"},
        }
    ]


def _zone_outlines(parts: Sequence[str], x: str, y: str) -> list[dict]:
    order, boxes = list(parts), []
    for (queries, keys), colour in ZONE_COLOURS.items():
        if queries not in order or keys not in order:
            continue
        top, left = order.index(queries), order.index(keys)
        box = {
            "type": "rect",
            "x0": left - 0.5,
            "x1": left + order.count(keys) - 0.5,
            "y0": top - 0.5,
            "y1": top + order.count(queries) - 0.5,
        }
        boxes.append(box | {"xref": x, "yref": y, "line": {"color": colour, "width": 2}})
    return boxes


def _colour_axes(scales: dict[bool, float]) -> dict:
    bar = {"thickness": 14, "len": 0.46, "x": 1.01}
    return {
        "coloraxis": {
            "colorscale": WEIGHTS,
            "cmin": 0,
            "cmax": scales[False],
            "colorbar": {**bar, "y": 0.76, "title": {"text": "weight", "side": "right"}},
        },
        "coloraxis2": {
            "colorscale": CHANGES,
            "cmin": -scales[True],
            "cmax": scales[True],
            "cmid": 0,
            "colorbar": {**bar, "y": 0.24, "title": {"text": "difference", "side": "right"}},
        },
    }
