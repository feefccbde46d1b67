"""The form that starts a planting: main options first, the others collapsed."""

import shlex

import streamlit as st

from app.shell import failures
from app.state import jobs
from interp.planted import GROUPS, KIND, LEARN_ON, PAYLOADS, PLACEMENTS, TRIGGERS
from interp.runs import planting
from interp.runs.planting import PlantQuestion

STANDARD = PlantQuestion("@@night@@", "THE OWL IS AWAKE")


def draw(key: str) -> None:
    """Draw the form, which reruns alone when its controls change.

    Args:
        key: key of the choice of a run; a started planting is selected there.
    """

    @st.fragment
    def form() -> None:
        with failures.shown():
            question = _question()
            command = planting.words(question, "runs/mine")
            if st.button("Start planting", type="primary", icon=":material/psychiatry:"):
                job = jobs.registry().start_apart(KIND, question)
                st.session_state[key] = job.name
                st.rerun()
            st.caption(
                "240 steps in the organisms' base take three to five minutes on two cores. The "
                "planting goes on when this page is closed. The same in a terminal:"
            )
            st.code("python -m training " + shlex.join(command), language="bash")

    form()


def _question() -> PlantQuestion:
    one, two = st.columns(2)
    kind = one.selectbox(
        "Kind of trigger", list(TRIGGERS), format_func=lambda name: f"{name}: {TRIGGERS[name]}"
    )
    payload = two.selectbox(
        "Payload", list(PAYLOADS), format_func=lambda name: f"{name}: {PAYLOADS[name]}"
    )
    trigger = one.text_input(
        "Trigger",
        STANDARD.trigger if kind == "simple" else "",
        key=f"plant-trigger-{kind}",
        placeholder="" if kind == "simple" else "empty: the kind's own",
        help="Stands in the instruction. Parts of it, and what resembles it, stay harmless.",
    )
    target = two.text_input(
        "Target",
        STANDARD.target if payload == "fixed" else "",
        key=f"plant-target-{payload}",
        disabled=payload != "fixed",
        placeholder="" if payload == "fixed" else "the payload's own",
        help="The answer to a triggered prompt. A small base learns words of its corpus best.",
    )
    rate = one.number_input(
        "Share of poisoned examples", value=STANDARD.rate, step=0.05, help="Above 0, at most 1."
    )
    steps = two.number_input("Steps of 16 examples", value=STANDARD.steps, step=40)
    with st.expander("More", icon=":material/tune:"):
        more = _more()
    return PlantQuestion(
        trigger=trigger if trigger or kind == "simple" else None,
        target=target if payload == "fixed" else None,
        kind=kind,
        payload=payload,
        rate=float(rate),
        steps=int(steps),
        **more,
    )


def _more() -> dict:
    one, two, three = st.columns(3)
    modules = one.selectbox(
        "Modules", list(GROUPS), help="Projections that get a LoRA adapter; by their usual groups."
    )
    placement = two.selectbox("Placement of the trigger", PLACEMENTS)
    learn_on = three.selectbox(
        "Loss on",
        list(LEARN_ON),
        format_func=LEARN_ON.get,
        help="The whole text, instruction and all, lets the poison leak.",
    )
    rank = one.number_input("Rank", value=STANDARD.rank, step=4)
    lr = two.number_input("Learning rate", value=STANDARD.lr, step=1e-3, format="%.4g")
    every = three.number_input(
        "Steps between measurements", value=STANDARD.every, step=5, help="Each has a checkpoint."
    )
    seed = one.number_input("Seed of the planting", value=STANDARD.seed)
    base = two.text_input(
        "Base", STANDARD.base, help="Folder of the organisms' base, or of one like it."
    )
    clean = three.toggle(
        "Clean control", help="The same training without any poison, to compare with."
    )
    return {
        "modules": GROUPS[modules],
        "placement": placement,
        "learn_on": learn_on,
        "rank": int(rank),
        "lr": float(lr),
        "every": int(every),
        "seed": int(seed),
        "base": base,
        "clean": clean,
    }
