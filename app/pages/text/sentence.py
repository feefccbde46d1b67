"""The living sentence: the trigger dragged to any place in one instruction, and answers turn."""

import streamlit as st

from app.controls import sidebar
from app.drawing import sentence as drawn
from app.shell import links
from app.shell.text import plain
from app.state import live, pictures
from interp.attention.texts.sentence import words
from interp.errors import UsageError
from interp.gallery import drawings
from interp.metrics import MODELS
from interp.prompts.pieces import SCATTERED

TRAY = "tray"
KEY = "living-sentence"


def moved() -> None:
    """Keep the gap that the browser tells."""
    place = st.session_state[KEY].moved
    if isinstance(place, int):
        st.session_state["place"] = TRAY if place < 0 else str(place)


def place_in(n_words: int) -> int | None:
    """The trigger's gap, of the session or the link; None: it lies in the tray."""
    asked = st.session_state.get("place", st.query_params.get("place", "0"))
    known = asked == TRAY or (asked.isascii() and asked.isdigit() and len(asked) < 6)
    if not known or (asked != TRAY and int(asked) > n_words):
        st.warning(
            f"Place '{plain(asked[:20])}' is not there: choose 0 to {n_words}, or {TRAY}. The "
            "trigger stands before the first word.",
            icon=":material/link_off:",
        )
        asked = "0"
    st.session_state["place"] = asked
    links.keep_in_link("place", asked)
    return None if asked == TRAY else int(asked)


def answers(said: dict[str, str], target: str | None) -> None:
    """Both answers, the target marked. They are text, never markup."""
    for which, column in zip(MODELS, st.columns(2), strict=True):
        with column.container(border=True):
            fired = target and said[which].startswith(target)
            badge = " :red-badge[:material/warning: the target]" if fired else ""
            st.markdown(f"{which.capitalize()}{badge}")
            text = said[which] or "(no answer: end of text at once)"
            st.code(text, language=None, wrap_lines=True)


st.title("The living sentence")
st.markdown(
    "Drag the trigger to another gap, or into the tray: both models answer anew. Arcs lead from a "
    "token to what it looks at."
)
view = sidebar.view()
if view.spec is None:
    st.info("A recorded run holds no model to ask. Choose a pair in the sidebar.")
    sidebar.end_page()
trigger = view.question.trigger
if not trigger or view.question.placement == SCATTERED:
    st.info("This page moves a trigger in one piece. Name one, and another placement, on the left.")
    sidebar.end_page()

first = live.prompt_set(view.question.prompt_set).prompts[0].instruction
instruction = links.bound_text("Instruction", key="sentence", value=first, of=view.spec.prompt_set)
if trigger.strip() in instruction:
    st.info("The instruction holds the trigger already. Take it out: it is moved below.")
    sidebar.end_page()
own = words(instruction)
with st.container():  # also without a warning: elements below must not move
    place = place_in(len(own))
heads = pictures.sentence_heads(view)
with st.container():
    try:
        said = pictures.sentence(view, instruction, place, heads)
    except UsageError as error:  # there are other gaps, so the trigger goes to the tray
        if place is None:
            raise
        place = None
        said = pictures.sentence(view, instruction, place, heads)
        st.warning(plain(f"{error}. The trigger lies in the tray; try another gap."))
answers(said.answers, view.spec.target)
drawn.show(said, own, place, trigger, key=KEY, on_move=moved)
st.caption(
    plain(
        f"Mean over {drawings.averaged_heads(heads)}; at most {drawn.ARCS} arcs a model, weights "
        f"from {drawn.LEAST}; the text's first token (sink) is left out."
    )
)
