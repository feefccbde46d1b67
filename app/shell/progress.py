"""A bar on the page while something is measured."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.shell.text import plain

TOLD_EVERY = 0.4
"""Seconds between two reports of one step: a browser that draws each may share the cores."""


@contextmanager
def over(text: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar while the block lasts; yields what reports to it."""
    bar = st.progress(0.0, text=text)
    try:
        yield reporter(bar)
    finally:
        bar.empty()


def reporter(bar: DeltaGenerator) -> Callable[[int, int, str], None]:
    """What a measurement calls as (done, total, note), shown on a bar of the page."""
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
