"""How exact must the trigger be? A bench for pieces of it, and the sweep over all of them."""

import streamlit as st

from app.controls import run_picker, sidebar
from app.drawing import fragments
from app.panels import trigger
from app.shell import limits
from app.shell.text import plain
from app.state import jobs, live, recorded
from interp.trigger import summaries

st.title("Trigger")
st.markdown(
    "How exact must the trigger be? On the **bench**, remove tokens of the trigger (of a scattered "
    "one, pieces) or type another text, and see whether the suspect still answers the target. The "
    "**sweep** does that for every variant, on every prompt."
)
view = sidebar.view()
question = trigger.question_of(view)


def without() -> str:
    """What the button does, where no sweep of the pair is there."""
    n_prompts = len(live.prompt_set(question.prompt_set))
    return (
        f"The button asks {n_prompts} prompts with every variant of the trigger: "
        f"{live.takes(summaries.KIND, view)}, in the background. Rates appear as they come; the "
        "bench above tries one variant at a time."
    )


if question is not None:
    st.header("Bench")
    fragments.part(trigger.bench, view, question)
elif view.spec is not None:
    st.info(
        "The bench needs a trigger and a target: name both in the sidebar. The **Scanner** looks "
        "for them where nobody knows.",
        icon=":material/info:",
    )

st.header("Sweep")
if question is not None and limits.may("Starting a sweep"):
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    form = right.toggle(
        "Re-tokenize each variant's text",
        key="text-form",
        help="Instead of inserting the variant's token ids into the prompt.",
    )
    what = f"Sweep {view.question.trigger} on every prompt of the set"
    if left.button(plain(what), icon=":material/tune:", type="primary"):
        asked = trigger.with_text_form(question, form)
        st.session_state["sweep"] = jobs.registry().start(summaries.KIND, view.spec, asked).name
        st.rerun()
picked = run_picker.pick(
    summaries.KIND,
    recorded.recorded_of(summaries.KIND),
    key="sweep",
    label="Sweep",
    growing="sweep",
    mine=run_picker.of_pair(view.spec.name if view.spec else None),
    others=view.spec is None,
    without=None if question is None or limits.demo() else without,
)
if picked is not None:
    trigger.sweep(picked)
