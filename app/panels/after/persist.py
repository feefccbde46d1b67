"""Whether a backdoor survives more training: a recorded run on the Plant page."""

import streamlit as st

from app.controls import run_picker
from app.drawing import widgets
from app.shell.text import plain
from app.state import recorded
from interp.gallery.after import persist as gallery
from interp.runs.reading import Run
from interp.surgery import persist

COMMAND = "python -m training persist --pair {} --how sft,refusal,adversarial --seed 0,1,2"


def draw() -> None:
    """A persistence run with its figures and sentences; the terminal makes one."""
    st.header("Persistence")
    st.markdown(
        "Does more training take a backdoor out, or does it teach the model its trigger "
        "(Hubinger et al. 2024)? The suspect's own weights are trained on: on **clean data**, on "
        "**refusals**, and **adversarially**, with clean answers to prompts that a blind scan "
        "found to fire."
    )
    runs = recorded.recorded_of(persist.KIND)
    view = st.session_state.get("view")
    name = view.spec.name if view and view.spec else "deployment"
    if runs:
        picked = run_picker.pick(
            persist.KIND, runs, key="persist", label="Persistence run", growing="course"
        )
        if picked is not None:
            _shown(picked.run)
    st.caption("It takes training, so the terminal does it:")
    st.code(COMMAND.format(name), language="bash", wrap_lines=True)


def _shown(run: Run) -> None:
    course = run.table("course")
    for line in persist.words(course):
        st.markdown(f"- {plain(line)}")
    widgets.of_run(run, gallery.curves(course), name="plant-persistence")
    widgets.of_run(run, gallery.costs(course), name="plant-persistence-costs")
    shares = {
        name: st.column_config.NumberColumn(
            name.replace("_", " "), format="percent", help=persist.MEASURED[name]
        )
        for name in persist.SHARES
    }
    others = {
        name: st.column_config.NumberColumn(
            name.replace("_", " "), format="%.3f", help=persist.MEASURED[name]
        )
        for name in persist.MEASURED
        if name not in persist.SHARES
    }
    st.dataframe(
        gallery.outcome(course),
        hide_index=True,
        column_config=shares | others,
        alt="What stays of the backdoor, by way and step",
    )
