"""The frame around every page: jobs and sidebar first, and failures that are said in a line."""

import streamlit as st

from app import failures, jobpanel, limits, links, sidebar, spent


def run(page) -> None:
    """Draw the sidebar and the page."""
    with spent.shown(st.sidebar.container), failures.shown(), links.notes():
        limits.count_run()
        limits.banner()
        jobpanel.draw()
        sidebar.draw()
        page.run()
