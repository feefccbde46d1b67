"""A few runs of one kind side by side, on the page Runs: one table and one figure."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.drawing import charts, widgets
from app.shell import links
from app.shell.text import plain
from app.state import figure_cache, recorded
from interp.gallery import registry
from interp.gallery.after import beside, many
from interp.runs.shelf.listing import Entry
from interp.text import visible

KEY = "beside"


def fits(entry: Entry) -> bool:
    """Whether a run has numbers that can stand beside those of others."""
    return entry.state == "done" and entry.kind in many.OUTCOMES


def chosen_now() -> list[str]:
    """The names that are chosen, also before the control is drawn."""
    for kept in (f"{KEY}-put", KEY):
        if kept in st.session_state:
            return list(st.session_state[kept])
    return st.query_params.get_all(KEY)


def draw(found: Mapping[str, Entry]) -> None:
    """Choose some runs; their numbers and one figure.

    Args:
        found: name -> run, all that there are.
    """
    names = [name for name, entry in found.items() if fits(entry)]
    names.sort(key=lambda name: (beside.family(found[name].kind), name))
    chosen = links.bound(
        st.multiselect,
        f"Runs side by side, up to {beside.MOST} of one kind",
        names,
        key=KEY,
        max_selections=beside.MOST,
        placeholder="Choose runs, or press *Side by side* on a run above",
    )
    if not chosen:
        return
    kind = found[chosen[0]].kind
    own = [name for name in chosen if beside.family(found[name].kind) == beside.family(kind)]
    _say_what_is_left_out(found, chosen, own)
    known = recorded.finished_runs()
    runs = {name: known[name] for name in own if name in known}
    table, points, figure = figure_cache.side_by_side(runs, kind)
    if len(table) < beside.FEWEST:
        title = registry.kinds()[kind].title
        st.info(f"One more run of the kind {title} is needed to compare.", icon=":material/info:")
        return
    without = [visible(name) for name in own if name not in set(table["run"])]
    if without:
        st.warning(plain(f"Left out, without such numbers: {', '.join(without)}."))
    st.dataframe(
        beside.in_columns(table),
        hide_index=True,
        key=f"{KEY}-table",
        column_config={"number": st.column_config.TextColumn("", pinned=True, width="large")},
        alt="The numbers of the chosen runs, a column for each run",
    )
    widgets.csv_button("side-by-side", lambda: table, what="One row per run.")
    _figure(points, figure, kind)


def _say_what_is_left_out(found: Mapping[str, Entry], chosen: list[str], own: list[str]) -> None:
    others = [visible(name) for name in chosen if name not in own]
    if others:
        title = registry.kinds()[found[chosen[0]].kind].title
        st.warning(
            plain(
                f"Left out, of another kind than {visible(chosen[0])} ({title}): "
                f"{', '.join(others)}."
            ),
            icon=":material/rule:",
        )


def _figure(points: pd.DataFrame, figure: go.Figure, kind: str) -> None:
    if points.empty:
        st.info("None of these runs holds what the figure needs.", icon=":material/info:")
        return
    curve = beside.CURVES.get(beside.family(kind))
    what = curve.what if curve else "what came of each"
    caption = f"{points['run'].nunique()} runs on one scale: {what}."
    st.plotly_chart(
        charts.on_page(figure, clicked=False),
        key=f"{KEY}-figure",
        theme=None,
        config=widgets.chart_config("side-by-side-figure"),
        alt=caption,
    )
    st.caption(plain(caption))
    widgets.csv_button("side-by-side-figure", lambda: points)
