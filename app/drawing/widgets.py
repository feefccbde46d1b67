"""Figures with their bar of downloads, shared by several pages."""

from collections.abc import Callable, Hashable
from types import MappingProxyType

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.drawing import basket
from app.drawing.charts import as_set, on_page
from app.drawing.saver import FORMATS, Chart, save_button
from app.shell import limits
from app.shell.text import plain
from app.state import figure_cache
from interp.figures.fit import fitted
from interp.gallery import registry
from interp.gallery.drawings import Drawing
from interp.gallery.entries import FigureEntry, full_caption
from interp.publish import stamps
from interp.publish.csvtext import NOTE, csv_text
from interp.publish.naming import About, file_stem, with_about
from interp.runs import provenance as origin
from interp.runs.reading import Run
from interp.style.columns import MISSING, decimals, heading, without_signed_zeros
from interp.style.presets import PRESETS, Style, style_of

MODEBAR = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
}
AS_SHOWN = "page"
NOTHING = MappingProxyType({})
FACTS = (
    "Title, caption and command stand inside a PNG and an SVG. For all formats, with our fonts: \
record the figure with the command beside, then `python -m interp figures RUN --out DIR`."
)


def drawing(
    drawn: Drawing, name: str, command: str, *, on_select: Callable | str = "ignore"
) -> None:
    """Show a drawing of a study with its bar, by `figure`."""
    panels = drawn.panels
    shown = basket.View(
        name,
        drawn.title,
        drawn.figure,
        lambda figures: full_caption(drawn.what, figures, drawn.provenance),
        drawn.table,
        command,
        drawn.about,
        None if panels is None else lambda style: fitted(panels, style),
    )
    figure(shown, on_select=on_select, unfinished=drawn.unfinished)


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
    view = basket.View(
        name or shown.name,
        shown.title,
        drawn,
        lambda figures: registry.captioned(run, shown, figures),
        lambda: registry.table_of(run, shown),
        registry.command_of(run),
        origin.about(run),
        shown.fit,
    )
    figure(view, on_select=on_select)


def of_results(
    results: tuple,
    shown: FigureEntry,
    *controls: Hashable,
    provenance: str,
    command: str,
    about: About = NOTHING,
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
        about: what they are of, from `provenance.about_of`.
        name: file name without ending; by default the entry's.
        unfinished: as in `figure`.
    """
    drawn = figure_cache.figure(results, shown.name, *controls, build=shown.draw)
    view = basket.View(
        name or shown.name,
        shown.title,
        drawn,
        lambda figures: full_caption(shown.caption, figures, provenance),
        shown.table,
        command,
        about,
        shown.fit,
    )
    figure(view, unfinished=unfinished)


def figure(
    view: basket.View, *, on_select: Callable | str = "ignore", unfinished: bool = False
) -> None:
    """Show a figure and its bar: image, data, caption, and the command that reproduces it.

    Args:
        view: the figure, with its caption, data and command; its name is the widget's key too.
        on_select: Streamlit's `on_select`, for clickable figures.
        unfinished: it is drawn from the first prompts of a measurement that goes on; then nothing
            of it can be saved, kept or copied.
    """
    name, caption = view.name, view.told([view.figure])
    stem = file_stem(name, view.about)
    style = st.session_state.get(f"{name}-style") or AS_SHOWN
    if style == AS_SHOWN or unfinished:
        charts = [Chart(name, stamps.facts(view.title, caption, view.command), stem=stem)]
        st.plotly_chart(
            on_page(view.figure, clicked=on_select != "ignore"),
            key=name,
            theme=None,
            config=chart_config(stem, saves=not unfinished),
            on_select=on_select,
            selection_mode="points",
            alt=f"Not finished. {caption}" if unfinished else caption,
        )
    else:
        dark = bool(st.session_state.get(f"{name}-dark"))
        charts, caption = set_view(view, style_of(style, dark=dark))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Keep this view",
            icon=":material/bookmark_add:",
            key=f"{name}-keep",
            help="For the page Figures, which sets and prints it as it stands here.",
            on_click=basket.keep,
            args=(view,),
            disabled=unfinished,
        )
        _image(name, charts, unfinished)
        csv_button(name, view.table, about=view.about, disabled=unfinished)
        st.download_button(
            "HTML",
            data=limits.counted(
                lambda: view.figure.to_html(include_plotlyjs=True, div_id=name).encode()
            ),
            file_name=f"{stem}.html",
            on_click="ignore",
            icon=":material/code:",
            help="The figure in one file that opens offline.",
            key=f"{name}-html",
            disabled=unfinished,
        )
        with st.popover("Caption and command", icon=":material/terminal:", disabled=unfinished):
            st.markdown(plain(caption))
            st.code(view.command, language="bash", wrap_lines=True)
            st.caption("The address of this page reopens this view.")


def set_view(view: basket.View, style: Style) -> tuple[list[Chart], str]:
    """Draw a view in a style, in its true size if there is room.

    Returns:
        Its charts, and the caption of what is drawn: a style may change where scales end.
    """
    drawn = view.set_in(style)
    caption = view.told(drawn.values())
    facts = stamps.facts(view.title, caption, view.command)
    charts = [true_size(one, key, facts, file_stem(key, view.about)) for key, one in drawn.items()]
    return charts, caption


def table(rows: pd.DataFrame, *, alt: str, **options) -> None:
    """Show a table: headings in words, each number with the decimals that its column needs.

    Args:
        rows: the table, with columns as the code names them.
        alt: its name for a screen reader.
        **options: further ones of `st.dataframe`.
    """
    shown, config = {}, {}
    for name in rows:
        places, said = decimals(rows[name]), heading(name)
        shown[said] = rows[name]
        if places is not None:
            shown[said] = without_signed_zeros(rows[name], places)
            config[said] = st.column_config.NumberColumn(format=f"%.{places}f")
    st.dataframe(
        pd.DataFrame(shown),
        hide_index=True,
        column_config=config,
        placeholder=MISSING,
        alt=alt,
        **options,
    )


def csv_button(
    name: str,
    table: Callable[[], pd.DataFrame],
    *,
    what: str = "The tidy data behind the figure.",
    about: About = NOTHING,
    disabled: bool = False,
) -> None:
    """A button that saves the tidy data of a figure, or other rows, as CSV.

    Args:
        name: file name without ending, and the button's key.
        table: makes the rows.
        what: what they are, for the button's help.
        about: what they are of; it stands in the file's name and in columns of its own.
        disabled: whether there is nothing to save yet.
    """
    st.download_button(
        "CSV",
        data=limits.counted(lambda: csv_text(with_about(table(), about)).encode()),
        file_name=f"{file_stem(name, about)}.csv",
        on_click="ignore",
        icon=":material/table:",
        help=f"{what} {NOTE}",
        key=f"{name}-csv",
        disabled=disabled,
    )


def chart_config(stem: str, *, saves: bool = True) -> dict:
    """Plotly's buttons over a chart; the camera saves an SVG, if there is one.

    Args:
        stem: file name without ending.
        saves: whether there is a camera.
    """
    buttons = [*MODEBAR["modeBarButtonsToRemove"], *([] if saves else ["toImage"])]
    return MODEBAR | {
        "modeBarButtonsToRemove": buttons,
        "toImageButtonOptions": {"format": "svg", "filename": stem},
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


def true_size(fig: go.Figure, key: str, facts: stamps.Facts, stem: str) -> Chart:
    """Draw a styled figure in its own colours, and in its own size if there is room.

    Args:
        fig: the figure.
        key: key of the chart.
        facts: metadata of its image.
        stem: its image's file name without ending.
    """
    st.plotly_chart(
        as_set(fig),
        key=key,
        theme=None,
        width="content",
        config=chart_config(stem),
        alt=facts["Description"],
    )
    return Chart(key, facts, fig.layout.width, fig.layout.height, stem)
