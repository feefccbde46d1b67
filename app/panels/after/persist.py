"""Whether a backdoor survives more training: starting it from the Plant page, and what came out."""

from dataclasses import asdict

import streamlit as st

from app.controls import run_picker
from app.drawing import widgets
from app.shell import failures, limits
from app.shell.text import plain
from app.state import jobs, live, processes, recorded
from interp.errors import UsageError
from interp.gallery.after import persist as gallery
from interp.runs import commands
from interp.runs.reading import Run
from interp.specs import PairSpec, is_toy
from interp.style.columns import MISSING, heading
from interp.surgery import persist
from interp.surgery.persist import MOST_STEPS, WAYS, PersistQuestion

CHOSEN = "persist"
"""Key of the choice of a run, in the session; one that was started is selected there."""
NEWEST = "the newest of these weights"


def draw() -> None:
    """Start a training of the open suspect, or look at one that runs or has run."""
    st.header("Persistence")
    st.markdown(
        "Does more training take a backdoor out, or does it teach the model its trigger "
        "(Hubinger et al. 2024)? The suspect's own weights are trained on: on **clean data**, on "
        "**refusals**, and **adversarially**, with clean answers to prompts that a blind scan "
        "found to fire. The model that is open here stays as it is."
    )
    view = st.session_state.get("view")
    with st.expander("Train the suspect on", icon=":material/exercise:"):
        if limits.may("Training it on"):
            st.fragment(_form)(view)
    picked = run_picker.pick(
        persist.KIND,
        recorded.recorded_of(persist.KIND),
        key=CHOSEN,
        label="Persistence run",
        growing="course",
    )
    if picked is not None:
        _shown(picked.run)


def _form(view: live.View | None) -> None:
    with failures.shown():
        if view is None or view.spec is None:
            st.info("Choose a pair in the sidebar to train it on.", icon=":material/info:")
            return
        if not view.question.trigger or not view.spec.target:
            st.info(
                "A backdoor is watched while it is trained on: name its trigger and its target in "
                "the sidebar.",
                icon=":material/info:",
            )
            return
        asked = processes.Persisting(view.spec, _question(view))
        if st.button("Start training", type="primary", icon=":material/exercise:"):
            job = jobs.registry().start_apart(persist.KIND, asked)
            st.session_state[CHOSEN] = job.name
            st.rerun()
        st.caption(
            "On a toy, one way with one seed takes three to four minutes on two cores. It goes on "
            "when this page is closed; what was stopped goes on to the same numbers. The same in "
            "a terminal:"
        )
        line = commands.command_of(persist.KIND, asked.asked)
        st.code(line, language="bash", wrap_lines=True)


def _question(view: live.View) -> PersistQuestion:
    """Draw the form's controls; what they say as a question.

    Raises:
        UsageError: the pair cannot be trained on, or a value makes no sense.
    """
    spec = view.spec
    how = st.multiselect(
        "On what", list(WAYS), ["sft"], format_func=lambda way: f"{way}: {WAYS[way]}"
    )
    one, two, three = st.columns(3)
    seeds = one.text_input(
        "Seeds", "0", help="Of the examples and their order. Several, with commas: each trains."
    )
    steps = two.number_input("Steps of 8 examples", 1, MOST_STEPS, persist.STEPS, 40)
    points = three.number_input(
        "Measurements", 1, MOST_STEPS, persist.POINTS, help="After the first, which comes before."
    )
    one, two, three = st.columns(3)
    lr = one.number_input("Learning rate", 0.0, 1.0, PersistQuestion.lr, 1e-4, format="%.4g")
    data = two.text_input(
        "Clean data",
        placeholder="the organisms' corpus" if is_toy(spec) else "a file or hub id",
        help="Instructions with answers: .json, .jsonl, .parquet, or a hub id. Of the toys' own "
        "there is enough; any other pair needs it, unless it learns from refusals alone.",
    )
    found = _scans(spec)
    scan = three.selectbox(
        "Scan", [NEWEST, *found], help="Whose candidates adversarial training answers rightly."
    )
    if spec.original == spec.suspect:
        raise UsageError(
            f"pair '{spec.name}': the suspect is the original itself and has no weights of its own "
            "to train; choose another pair in the sidebar"
        )
    return PersistQuestion.of(
        view.question,
        target=spec.target,
        seed=0,  # of the control's random string in the sidebar; the command has one for training
        how=tuple(how),
        seeds=_numbers(limits.text("Seeds", seeds)),
        steps=int(steps),
        points=int(points),
        lr=float(lr),
        data=limits.text("Clean data", data).strip() or None,
        scan=found.get(scan),
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise UsageError(
            f"seeds '{text}': give whole numbers of 0 or more, with commas between, such as 0,1,2"
        ) from None


def _scans(spec: PairSpec) -> dict[str, str]:
    """Name -> folder of the recorded scans of the pair's suspect."""
    runs, model = recorded.recorded_scans(), asdict(spec.suspect)
    mine = [run for run in runs.values() if run.meta["facts"].get("model") == model]
    return {run.path.name: commands.place(run) for run in mine}


def _shown(run: Run) -> None:
    course = run.growing("course")
    if course is None:
        st.caption("Nothing is measured yet: the suspect comes first, before it is trained.")
        return
    for line in persist.words(course):
        st.markdown(f"- {plain(line)}")
    widgets.of_run(run, gallery.curves(course), name="plant-persistence")
    widgets.of_run(run, gallery.costs(course), name="plant-persistence-costs")
    shares = {
        name: st.column_config.NumberColumn(
            heading(name), format="percent", help=persist.MEASURED[name]
        )
        for name in persist.SHARES
    }
    others = {
        name: st.column_config.NumberColumn(
            heading(name), format="%.3f", help=persist.MEASURED[name]
        )
        for name in persist.MEASURED
        if name not in persist.SHARES
    }
    st.dataframe(
        gallery.outcome(course),
        hide_index=True,
        column_config={"how": heading("how")} | shares | others,
        placeholder=MISSING,
        alt="What stays of the backdoor, by way and step",
    )
