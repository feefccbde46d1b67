"""A progress bar on the page during a measurement."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.shell.text import plain

TOLD_EVERY = 0.4
"""Seconds between two reports of one stage; the browser may run on the same cores."""


@contextmanager
def over(text: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar for the block; yields its reporter."""
    bar = st.progress(0.0, text=text)
    try:
        yield reporter(bar)
    finally:
        bar.empty()


def reporter(bar: DeltaGenerator) -> Callable[[int, int, str], None]:
    """A callback (done, total, note) that updates a bar on the page."""
    told, shown = -math.inf, ""

    def report(done: int, total: int, note: str) -> None:
        nonlocal told, shown
        if note == shown and time.monotonic() - told < TOLD_EVERY:
            return
        told, shown = time.monotonic(), note
        bar.progress(
            min(1.0, done / max(1, total)), text=plain(f"{note} ({100 * done // max(1, total)} %)")
        )

    return report
