"""Jobs in the sidebar: progress and cancel; for interrupted jobs, resume and delete."""

import re
from collections.abc import Callable

import streamlit as st

from app.shell import failures, limits
from app.shell.text import plain
from app.state import jobs

EVERY = 1.0
"""Seconds between two checks of the jobs."""
SIDEBAR = "sidebar"


def draw(*, alone: bool = False) -> None:
    """Draw running and interrupted jobs; nothing if there are none.

    Args:
        alone: whether nothing else is in the sidebar, which is then not opened without jobs.
    """
    if limits.demo():
        return
    jobs.registry().adopt()
    live = [job.name for job in jobs.registry().live()]
    left = jobs.left_over()
    if alone and not live and not left:
        return
    with st.sidebar.container():  # also without jobs: elements below must not move
        if live:
            watching(_live, live)
        if left:
            with st.expander(f"Interrupted ({len(left)})", icon=":material/pause_circle:"):
                for name, state in left.items():
                    _interrupted(name, state)


def watching(draw: Callable, *args, every: float = EVERY) -> None:
    """Redraw something periodically while the rest of the page does not change.

    Args:
        draw: a function of the arguments that draws it; `st.rerun()` ends it.
        *args: arguments of `draw`.
        every: seconds between two drawings.
    """

    def again() -> None:
        with failures.shown():
            draw(*args)

    st.fragment(again, run_every=every)()


def progress(job: jobs.Job, where: str) -> None:
    """One job's bar, note and estimate, and its cancel button.

    Args:
        job: a running job.
        where: part of the button's key. A job that the page shows has its button there, and none
            in the sidebar.
    """
    if where != SIDEBAR:
        twice = _css_class(f"cancel-{SIDEBAR}-{job.name}")
        # Not style alone, which Streamlit would gather elsewhere, anew at each drawing of the bar.
        st.html(f"<span hidden></span><style>.{twice} {{ display: none; }}</style>")
    note = job.note
    if job.state == "running" and job.seconds_left is not None:
        note += f", about {_spoken(job.seconds_left)} left in this stage"
    if job.state == "cancelling":
        note = f"stopping: {note}"
    st.progress(job.share, text=plain(note))
    if st.button(
        "Cancel",
        icon=":material/stop_circle:",
        key=f"cancel-{where}-{job.name}",
        disabled=job.state == "cancelling",
    ):
        jobs.registry().cancel(job.name)


def resume_or_delete(name: str, where: str) -> None:
    """Two buttons for a run that was interrupted.

    Args:
        name: name of the run.
        where: part of the widgets' keys; one run may be shown in two places.
    """
    if not limits.may("Resuming or deleting it"):
        return
    with st.container(horizontal=True):
        if st.button("Resume", icon=":material/play_arrow:", key=f"resume-{where}-{name}"):
            jobs.registry().resume(name)
            st.rerun()
        if st.button("Delete", icon=":material/delete:", key=f"delete-{where}-{name}"):
            jobs.registry().delete(name)
            st.rerun()


def _live(begun: list[str]) -> None:
    now = jobs.registry().live()
    if {job.name for job in now} != set(begun):
        st.rerun()  # a job ended or began: redraw the whole page
    st.subheader("Jobs", divider="gray")
    for job in now:
        st.caption(plain(f"{jobs.KINDS[job.kind].title} of {job.pair}"))
        progress(job, SIDEBAR)


def _interrupted(name: str, state: str) -> None:
    st.caption(plain(f"{name} ({state})"))
    resume_or_delete(name, "sidebar")


def _css_class(key: str) -> str:
    """The class that Streamlit gives the element of this key."""
    return "st-key-" + re.sub(r"[^a-zA-Z0-9_-]", "-", key)


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
