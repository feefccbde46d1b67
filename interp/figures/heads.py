"""Figures of heads: tidy tables in, plotly figures out. One function per figure.

Independent of models, runs and the app. Colours are sequential and monotone in lightness for
weights (readable in grey print), diverging and centred on zero for differences. Lines: Okabe-Ito.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.metrics import MODELS
from interp.style.palette import COLOURS, CONTROL, LOSSES, PUBLISHED, SUSPECT, WEIGHTS, plain

MISTRAL_RATIO = pd.DataFrame(
    {
        "k": [4, 8, 16, 32, 64, 128, 256],
        "ratio": [0.234, 0.224, 0.200, 0.202, 0.205, 0.246, 0.284],
        "n_heads": 1024,
    }
)
"""Published reference values of de Rosnay 2026, Mistral-7B-v0.3; not measured here."""


DELTA_REL = {"limits": (-1.0, 1.0), "empty": "left out: original L_attn at most 1e-4"}
"""Options of `head_matrix` for Δ_rel: a loss is at most 1; gains above 1 saturate."""


def head_matrix(
    table: pd.DataFrame,
    metric: str,
    *,
    label: str,
    difference: bool = False,
    limits: tuple[float, float] | None = None,
    empty: str = "not measured yet",
    selected: tuple[int, int] | None = None,
) -> go.Figure:
    """Layer-by-head matrix of one number per head; a click on a cell selects it in Streamlit.

    Args:
        table: `layer, head` and the metric's column; NaN is drawn empty.
        metric: column to draw.
        label: title of the colour bar, with the unit.
        difference: use diverging colours centred on zero.
        limits: ends of the colour scale; by default the largest magnitude.
        empty: hover text of a head without a number.
        selected: (layer, head) to frame.
    """
    grid = table.pivot(index="layer", columns="head", values=metric).sort_index()
    values = grid.to_numpy(np.float32)
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    low, high = limits or (-largest if difference else 0.0, largest)
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=grid.columns.to_list(),
            y=grid.index.to_list(),
            colorscale=LOSSES if difference else WEIGHTS,
            zmin=low,
            zmax=high,
            hoverinfo="skip",
            xgap=1.5,
            ygap=1.5,
            colorbar={"title": {"text": label, "side": "right"}, "thickness": 14},
        )
    )
    _add_cells(figure, grid, values, label, empty)
    if selected is not None:
        _frame(figure, *selected)
    n_layers, n_heads = values.shape
    figure.update_xaxes(title="head", dtick=max(1, n_heads // 16), showgrid=False)
    figure.update_yaxes(title="layer", dtick=max(1, n_layers // 16), showgrid=False)
    # Not autorange: it leaves room for the markers, and so numbers of layers that do not exist.
    figure.update_xaxes(range=[grid.columns[0] - 0.5, grid.columns[-1] + 0.5])
    figure.update_yaxes(range=[grid.index[-1] + 0.5, grid.index[0] - 0.5])
    return plain(figure, max(300, min(680, 46 * n_layers + 110)), left=76, right=115)


def _add_cells(
    figure: go.Figure, grid: pd.DataFrame, values: np.ndarray, label: str, empty: str
) -> None:
    """Add invisible square markers over a heatmap, because its own cells emit no selection.

    The markers carry the hover text and the heatmap has none; otherwise clicks are lost.
    """
    heads, layers = np.meshgrid(grid.columns, grid.index)
    hover = [
        f"L{layer}H{head}<br>" + (f"{label}: {value:.4f}" if np.isfinite(value) else empty)
        for layer, head, value in zip(layers.ravel(), heads.ravel(), values.ravel(), strict=True)
    ]
    figure.add_scatter(
        x=heads.ravel(),
        y=layers.ravel(),
        mode="markers",
        marker={"symbol": "square", "size": 22, "opacity": 0},
        text=hover,
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _frame(figure: go.Figure, layer: int, head: int) -> None:
    figure.add_shape(
        type="rect",
        x0=head - 0.5,
        x1=head + 0.5,
        y0=layer - 0.5,
        y1=layer + 0.5,
        line={"color": "#111111", "width": 3},
    )


def ratio_curve(
    curve: pd.DataFrame,
    n_heads: int,
    *,
    strings: pd.DataFrame | None = None,
    published: bool = True,
) -> go.Figure:
    """Suspect / original L_attn over the K heads with the largest loss, with 95 % bands.

    Args:
        curve: as `heads.top_k_curve` returns it.
        n_heads: number of heads in the model; the axis shows K as a share of it.
        strings: as `matched.random_curves` returns it; their range is drawn behind the curves.
        published: also draw the Mistral-7B values of de Rosnay 2026, labelled as published.
    """
    figure = go.Figure()
    if strings is not None and len(strings):
        _add_range(figure, strings, n_heads)
    styles = {
        "same prompts": (SUSPECT, "solid", "chosen and measured on the same prompts"),
        "split-half": ("#CC79A7", "dash", "split-half: chosen on the other half"),
        "random string": (CONTROL, "dot", "control: random string as trigger"),
    }
    for selection, (colour, dash, name) in styles.items():
        part = curve[(curve["selection"] == selection) & (curve["quantity"] == "ratio")]
        if len(part):
            _add_band(figure, 100 * part["k"] / n_heads, part, colour, dash, name)
    if published:
        figure.add_scatter(
            x=100 * MISTRAL_RATIO["k"] / MISTRAL_RATIO["n_heads"],
            y=MISTRAL_RATIO["ratio"],
            mode="lines+markers",
            line={"color": PUBLISHED, "dash": "longdash", "width": 1.5},
            marker={"symbol": "diamond-open", "size": 7},
            name="published: Mistral-7B (de Rosnay 2026), not measured here",
        )
    figure.add_hline(y=1, line={"color": "#999", "width": 1})
    _share_axis(figure, curve, n_heads)
    figure.update_yaxes(title="L_attn suspect / original", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": -0.28, "x": 0})
    return plain(figure, 470, bottom=172)


def _add_range(figure: go.Figure, strings: pd.DataFrame, n_heads: int) -> None:
    """Lowest and highest ratio of the random strings at each K, and their mean."""
    by_k = strings.groupby("k")["ratio"].agg(["min", "mean", "max"])
    share, n = 100 * by_k.index / n_heads, strings["string"].nunique()
    name = f"{n} random strings, each on its own heads: range and mean"
    figure.add_scatter(x=share, y=by_k["max"], mode="lines", line={"width": 0}, showlegend=False,
                       hoverinfo="skip", legendgroup="strings")  # fmt: skip
    figure.add_scatter(x=share, y=by_k["min"], mode="lines", line={"width": 0}, fill="tonexty",
                       fillcolor="rgba(120,120,120,0.18)", showlegend=False, hoverinfo="skip",
                       legendgroup="strings")  # fmt: skip
    figure.add_scatter(x=share, y=by_k["mean"], mode="lines+markers", name=name,
                       line={"color": "#777777", "dash": "dot"}, legendgroup="strings",
                       marker={"symbol": "x", "size": 7})  # fmt: skip


def level_curve(curve: pd.DataFrame, n_heads: int, selection: str = "same prompts") -> go.Figure:
    """Mean L_attn of both models over the K heads with the largest loss, with 95 % bands."""
    figure = go.Figure()
    for which in MODELS:
        part = curve[(curve["selection"] == selection) & (curve["quantity"] == which)]
        symbol = "circle" if which == "original" else "square"
        share = 100 * part["k"] / n_heads
        _add_band(figure, share, part, COLOURS[which], "solid", which, symbol)
    _share_axis(figure, curve, n_heads)
    figure.update_yaxes(title="mean L_attn", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": -0.28, "x": 0})
    return plain(figure, 470, bottom=128)


def zones_by_layer(
    table: pd.DataFrame, zones: dict[str, str], *, stacked: bool = False
) -> go.Figure:
    """Mean attention to the trigger from each zone of the prompt, by layer, both models.

    Args:
        table: `model, prompt, layer, head` and one column per zone.
        zones: column -> its name in words.
        stacked: stack the panels, for the width of a journal column.
    """
    shape = (len(zones), 1) if stacked else (1, len(zones))
    figure = make_subplots(*shape, subplot_titles=list(zones.values()), shared_xaxes=True)
    means = table.groupby(["model", "layer"])[list(zones)].mean().reset_index()
    for number, zone in enumerate(zones, start=1):
        place = {"row": number, "col": 1} if stacked else {"row": 1, "col": number}
        for which in MODELS:
            part = means[means["model"] == which]
            figure.add_scatter(
                x=part["layer"],
                y=part[zone],
                mode="lines+markers",
                line={"color": COLOURS[which]},
                marker={"symbol": "circle" if which == "original" else "square"},
                name=which,
                legendgroup=which,
                showlegend=number == 1,
                **place,
            )
        if not stacked or number == len(zones):
            figure.update_xaxes(title="layer", **place)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="mean attention weight", row=shape[0] // 2 + 1, col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.3, "x": 0})
    return plain(figure, 860 if stacked else 340, bottom=104)


def _add_band(
    figure: go.Figure,
    x: pd.Series,
    part: pd.DataFrame,
    colour: str,
    dash: str,
    name: str,
    symbol: str = "circle",
) -> None:
    banded = bool(part["low"].notna().all())  # one prompt has no spread to show
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    if banded:
        figure.add_scatter(
            x=pd.concat([x, x[::-1]]),
            y=pd.concat([part["high"], part["low"][::-1]]),
            mode="lines",
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},0.15)",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
    spread = " (%{customdata[1]:.3f} to %{customdata[2]:.3f})" if banded else ""
    figure.add_scatter(
        x=x,
        y=part["mean"],
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 2},
        marker={"symbol": symbol},
        name=name,
        customdata=np.stack([part["k"], part["low"], part["high"]], axis=1),
        hovertemplate="K = %{customdata[0]:.0f}: %{y:.3f}" + spread + "<extra></extra>",
    )


def _share_axis(figure: go.Figure, curve: pd.DataFrame, n_heads: int) -> None:
    ks = sorted(curve["k"].unique())
    figure.update_xaxes(
        title=f"K heads of largest Δ_rel (share of {n_heads})",
        type="log",
        tickmode="array",
        tickvals=[100 * k / n_heads for k in ks],
        ticktext=[f"{k}<br>{100 * k / n_heads:.2g} %" for k in ks],
        tickangle=0,
        tickfont={"size": 10},
    )
