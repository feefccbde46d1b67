"""What the Causes page shows of a causal run: matrix, scatter, tokens. Draws; measures nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from app.drawing import widgets
from app.shell import links
from app.shell.text import plain
from app.state import jobs, live
from interp.causal import measure
from interp.causal.head_table import measured
from interp.causal.parts import part_sentences, whole_sentences, whole_table
from interp.causal.question import CausalQuestion
from interp.gallery import causal as gallery
from interp.metrics import ABLATIONS, CAUSAL_METRICS, MEASURES, PART_METRICS, Head
from interp.runs.reading import Run
from interp.specs import PairSpec

WHOLE_SET, ONE, OWN = "the whole set", "one conversation", "own text"


def start_form(view: live.View) -> None:
    """Choose what to measure on the open pair, and begin."""
    over = st.segmented_control(
        "Conversations", [WHOLE_SET, ONE, OWN], default=WHOLE_SET, required=True, key="cause-over"
    )
    prompts = live.prompt_set(view.question.prompt_set)
    with st.form("causes", border=False):
        left, right = st.columns(2)
        measures = left.multiselect(
            "Measures", list(MEASURES), list(MEASURES), format_func=MEASURES.get
        )
        ablation = right.selectbox(
            "Replace an ablated head's output by",
            list(ABLATIONS),
            format_func=lambda name: ABLATIONS[name],
        )
        number, text = None, None
        if over == ONE:
            key = f"conversation-{prompts.sha256[:10]}"  # number 3 of this set is of no other
            number = int(left.number_input("Conversation", 0, len(prompts) - 1, 0, key=key))
        if over == OWN:
            text = left.text_input("Instruction", "Name the capital of France.")
        target = right.text_input(
            "Response",
            view.spec.target or "",
            help="The answer that is forced: the backdoor's target.",
        )
        if not st.form_submit_button("Measure", type="primary", icon=":material/biotech:"):
            return
    question = CausalQuestion.of(
        view.question,
        target=target,
        prompt=number,
        text=text,
        ablation=ablation,
        measures=tuple(name for name in MEASURES if name in measures),
    )
    st.session_state["causal"] = jobs.registry().start(measure.KIND, view.spec, question).name
    st.rerun()


def baseline(run: Run) -> None:
    """Show the rates of the untouched suspect."""
    table = run.growing("baseline")
    if table is None:
        return
    asked = run.meta["asked"]
    of = f"{len(table)} conversations" if len(table) > 1 else "One conversation"
    st.caption(
        plain(
            f"{of} with the trigger {asked['trigger']} and the response {asked['target']}: the "
            f"suspect says it in {table['said'].mean():.0%}, at a loss of "
            f"{table['loss_suspect'].mean():.3f} nats per token (the original: "
            f"{table['loss_original'].mean():.3f}); KL(suspect ‖ original) is "
            f"{table['kl'].mean():.1f} nats over the response."
        )
    )


def matrix(
    run: Run,
    heads: pd.DataFrame,
    metric: str,
    head: Head,
    operated: Sequence[Head],
    on_select: Callable,
) -> None:
    """Draw one metric of every head; a click selects a head."""
    shown = gallery.matrix(heads, metric, selected=head, operated=operated)
    widgets.of_run(
        run,
        replace(shown, table=lambda: heads),
        head,
        tuple(operated),
        name="causes-matrix",
        on_select=on_select,
    )


def scatter(run: Run, heads: pd.DataFrame, head: Head, on_select: Callable) -> None:
    """Does one metric predict another?"""
    labels = {CAUSAL_METRICS[name].label: name for name in measured(heads)}
    if len(labels) < 2:
        st.info("Two metrics are needed for this, and one is measured so far.")
        return
    names = list(labels)
    default = CAUSAL_METRICS["patching_effect"].label
    left, right = st.columns(2)
    with left:
        x = links.bound(st.selectbox, "Does this metric …", names, key="x")
    with right:
        others = [name for name in names if name != x]
        first = others.index(default) if default in others else 0
        y = links.bound(st.selectbox, "… predict this one?", others, first, key="y")
    shown = gallery.scatter(run, heads, labels[x], labels[y], head)
    widgets.of_run(
        run, replace(shown, table=lambda: heads), head, name="causes-scatter", on_select=on_select
    )


def tokens(run: Run) -> None:
    """Loss of both models and their KL under each token of the first conversation."""
    table = run.growing("tokens")
    if table is None:
        st.info(
            "The loss per token is measured first; it appears here when the measurement starts."
        )
        return
    short = links.bound(st.toggle, "From the trigger on", True, key="short")
    shown = gallery.token_strip(run, table, answer_only=short)
    widgets.of_run(run, shown, short, name="causes-tokens")


def whole(run: Run | None, spec: PairSpec | None) -> None:
    """How much all heads carry and how much all MLPs: of this measurement, else of the card.

    Args:
        run: the measurement that is open, if there is one.
        spec: the open pair, if there is one.
    """
    table = whole_table(None) if run is None else measure.whole_of(run)
    told = {"This measurement": table}
    if table.empty:
        told = measure.on_card(spec) if spec is not None else {}
    for whose, one in told.items():
        for line in whole_sentences(one):
            st.markdown(f"- {plain(f'{whose}: {line[0].lower()}{line[1:]}')}")


def parts(run: Run) -> None:
    """How much attention and how much the MLPs carry, by layer and in all."""
    table = measure.parts_of(run)
    if table.empty:
        st.info(
            "Attention and MLP as wholes are not measured here: the measurement was made before "
            "this, or without it. Measure the pair again."
        )
        return
    for line in part_sentences(table):
        st.markdown(f"- {plain(line)}")
    metric = links.bound(
        st.selectbox,
        "Of whole parts",
        list(PART_METRICS),
        format_func=lambda name: PART_METRICS[name].label,
        key="part",
    )
    widgets.of_run(run, gallery.parts(table, metric), metric, len(table), name="causes-parts")
