"""Head surgery on the Causes page: operate on chosen heads; search for the fewest heads."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from app.controls.head_card import AROUND
from app.controls.run_picker import Picked
from app.drawing import fragments, widgets
from app.shell import limits, links
from app.shell.text import plain
from app.state import jobs, live
from interp.causal.head_table import measured, ranked
from interp.errors import UsageError
from interp.gallery import causal as gallery
from interp.metrics import CAUSAL_METRICS, MAX_ASR, MAX_LOSS, Head, format_heads, parse_heads
from interp.runs import commands, provenance
from interp.runs.reading import Run
from interp.style.columns import heading
from interp.surgery import removal as ways
from interp.surgery.operate import OPERATIONS
from interp.surgery.preview import SHOWN_TOKENS
from interp.surgery.run import KIND, OUTCOMES, SurgeryQuestion
from interp.surgery.search import SEARCH_PROMPTS
from interp.surgery.search_run import SEARCH_KIND, SearchQuestion

HEADS = "operate"
"""Key of the heads on the table, in the link and in the session."""
NOT_SHARES = {"clean_kl": "%.3f", "kl_clean": "%.3f", "seconds": "%.0f"}
"""Quantity that is no share -> format of its column."""
TITLES = {"triggered": "With the trigger", "clean": "Without the trigger"}
PUBLISHED = (
    "Published, with another intervention (heads' contributions subtracted at the last prompt "
    "token): 90 % less ASR by about 3 % of the heads (Backdoor Attribution)."
)


def on_table(n_layers: int, n_heads: int) -> list[Head]:
    """The heads chosen so far; empty if the text is not a valid list of heads."""
    try:
        return parse_heads(st.session_state.get(HEADS) or "", n_layers, n_heads)
    except UsageError:
        return []


def toggle(head: Head, n_layers: int, n_heads: int) -> None:
    """Add a head to those on the table, or take it off."""
    chosen = on_table(n_layers, n_heads)
    rest = [other for other in chosen if other != head]
    links.put(HEADS, format_heads(rest if head in chosen else [*chosen, head]))


def heads_field(models: str) -> None:
    """The heads on the table as text.

    Args:
        models: key of the models, from `links.models_key`.
    """
    links.bound_text(
        "Heads for surgery",
        key=HEADS,
        of=models,
        placeholder="L4H5, L3H6",
        help="Type them, click them in the matrix, or take the first of a ranking below.",
        on_change=fragments.draw_again,
        args=(AROUND,),
    )


def choose(heads: pd.DataFrame) -> str:
    """Take heads by rank, and say how to operate; returns the method."""
    labels = {CAUSAL_METRICS[name].label: name for name in measured(heads)}
    one, two, three, four = st.columns([1, 3, 1, 1], vertical_alignment="bottom")
    most = len(heads)
    if st.session_state.get("top-n", 1) > most:  # of a larger model
        st.session_state["top-n"] = most
    n = one.number_input("Take the first", 1, most, min(3, most), key="top-n")
    by = two.selectbox("heads by", list(labels), key="top-by")

    def take() -> None:
        links.put(HEADS, format_heads(ranked(heads, labels[by])[: int(n)]))
        fragments.draw_again(AROUND)

    def clear() -> None:
        links.put(HEADS, "")
        fragments.draw_again(AROUND)

    three.button("Use these heads", on_click=take, icon=":material/checklist:", width="stretch")
    four.button("Clear", on_click=clear, icon=":material/close:", width="stretch")
    return links.bound(
        st.segmented_control,
        "Replace the heads' output by",
        list(OPERATIONS),
        default="mean",
        required=True,
        key="method",
        help="; ".join(f"**{name}**: {what}" for name, what in OPERATIONS.items()),
    )


def operate(view: live.View, method: str, n_layers: int, n_heads: int) -> None:
    """Show rates and answers before and after the chosen heads are replaced.

    Raises:
        UsageError: a head does not exist or is given twice, or there is no target.
    """
    chosen = parse_heads(st.session_state.get(HEADS) or "", n_layers, n_heads)
    if not chosen:
        st.info(
            "Choose heads to see what the model still does without them.", icon=":material/info:"
        )
        return
    question = SurgeryQuestion.of(
        view.question, target=view.spec.target or "", heads=format_heads(chosen), method=method
    )
    summary = live.operation(view, question, "summary")
    share = len(chosen) / (n_layers * n_heads)
    st.markdown(f"**{len(chosen)} of {n_layers * n_heads} heads ({share:.1%})**")
    with st.container(horizontal=True):
        for row in summary.to_dict("records"):
            _quantity(row)
    st.caption(
        f"The heads' output is replaced by {OPERATIONS[method]}. Decided by teacher forcing on "
        f"{int(summary['n'].iloc[0])} prompts; in brackets Wilson's 95 % interval."
    )
    answers = live.operation(view, question, "answers")
    for condition, title in TITLES.items():
        st.markdown(f"**{title}**")
        _answers(answers[answers["condition"] == condition])
    st.caption(f"Some answers, cut after {SHOWN_TOKENS} tokens.")
    _as_checkpoint(view, method, chosen)
    if not limits.may("Writing full answers, as a run"):
        return
    left, right = st.columns([2, 3], vertical_alignment="center")
    if left.button("Full answers to every prompt (a run)", icon=":material/biotech:"):
        job = jobs.registry().start(KIND, view.spec, question)
        st.session_state["surgery"] = job.name
        st.rerun()
    right.code(
        commands.question_command(KIND, view.spec, question),
        language="bash",
        wrap_lines=True,
    )


def _as_checkpoint(view: live.View, method: str, chosen: list[Head]) -> None:
    """The command that writes what is left as a checkpoint, where weights can hold it."""
    if method == "positions":
        st.caption(
            "As a checkpoint the heads' mean over all positions can be written where the output "
            "projection has a bias to hold it: `python -m training export` with "
            "`--method positions`, which refuses other models."
        )
        return
    if method != "zero":
        st.caption(
            "As a checkpoint only heads replaced by **zero** can be written: these values "
            "depend on the place in the text, and weights hold one for all places."
        )
        return
    st.caption("As a checkpoint that plain transformers opens, compared before it is kept:")
    st.code(
        commands.export(view.spec, format_heads(chosen), "runs/operated"),
        language="bash",
        wrap_lines=True,
    )


def finished(run: Run) -> None:
    """A surgery run: whole answers to every prompt."""
    summary = run.growing("summary")
    if summary is None:
        st.caption("The full answers are being generated.")
        return
    shown = summary.assign(quantity=[OUTCOMES[name] for name in summary["quantity"]])
    widgets.table(shown, alt="What the surgery changes")
    st.caption(plain(f"Heads {run.meta['asked']['heads']}. {provenance.sentence(run)}"))
    answers = run.table("answers")
    for condition, title in TITLES.items():
        st.markdown(f"**{title}**")
        _answers(answers[answers["condition"] == condition])


def removal(run: Run) -> None:
    """Ways of removal side by side; the run may still be running."""
    table = run.growing("ways")
    if table is None:
        st.caption("The ways come one by one.")
        return
    rescans = run.growing("rescans")
    for line in ways.words(table, rescans):
        st.markdown(f"- {plain(line)}")
    widgets.of_run(run, gallery.removal_costs(table), len(table), name="causes-removal")
    shares = {
        name: st.column_config.NumberColumn(
            heading(name), format=NOT_SHARES.get(name, "percent"), help=told
        )
        for name, told in ways.QUANTITIES.items()
    }
    st.dataframe(
        gallery.removal_table(table, rescans),
        hide_index=True,
        column_config=shares | _rescanned(),
        alt="Ways of removal, what each leaves and costs",
    )


def _rescanned() -> dict:
    """Columns of what a new blind scan found."""
    names = {"gone": "gone?", "verdict": "new scan", "candidate": "its candidate"}
    meant = {
        name: st.column_config.TextColumn(names.get(name), help=told)
        for name, told in ways.RESCANNED.items()
    }
    share = st.column_config.NumberColumn(
        "trigger in it", format="percent", help=ways.RESCANNED["trigger"]
    )
    return meant | {"trigger": share}


def search_form(view: live.View) -> None:
    """Start a search for the fewest heads."""
    with st.form("search", border=False):
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        method = left.selectbox(
            "Replace the heads' output by", list(OPERATIONS), format_func=OPERATIONS.get
        )
        if right.form_submit_button("Search", icon=":material/search:", width="stretch"):
            target = view.spec.target or ""
            question = SearchQuestion.of(view.question, target=target, method=method)
            job = jobs.registry().start(SEARCH_KIND, view.spec, question)
            st.session_state["search"] = job.name
            st.rerun()


def search(picked: Picked, on_take: Callable[[], None]) -> None:
    """Curves of every ranking and the sets found; the search may still be running.

    Args:
        picked: the search.
        on_take: called when the smallest set is put on the operating table.
    """
    run = picked.run
    curve = run.growing("curve")
    if curve is None:
        st.caption("The curves come when the measures behind the rankings are made.")
        return
    n_heads = int(curve["n"].max())
    if picked.finished:
        n_heads = run.meta["facts"]["n_layers"] * run.meta["facts"]["n_heads"]
        _smallest(run, n_heads, on_take)
    widgets.of_run(run, gallery.surgery_curve(run, curve, n_heads))
    table = run.growing("cumulative")
    if table is not None:
        widgets.of_run(run, gallery.cumulative(table, n_heads), name="cumulative-curve")


def _smallest(run: Run, n_heads: int, on_take: Callable[[], None]) -> None:
    sets = run.table("sets")
    if sets.empty:
        st.warning(
            f"No set of heads was found that takes ASR under {MAX_ASR:.0%} with clean accuracy "
            f"within {100 * MAX_LOSS:.0f} points.",
            icon=":material/search_off:",
        )
        return
    best = sets.iloc[0]
    st.success(
        f"**{int(best['n'])} of {n_heads} heads ({best['n'] / n_heads:.1%})** take ASR to "
        f"{best['said_asr']:.0%} and leave clean accuracy at {best['said_clean_accuracy']:.1%} "
        f"(before: {run.meta['facts']['goal_clean']:.1%}). {best['said_asr_anywhere']:.0%} of the "
        f"answers still contain the target, and {_cured(best)} of the triggered prompts get the "
        f"right answer. {PUBLISHED}",
        icon=":material/check_circle:",
    )
    st.code(best["heads"], language=None, wrap_lines=True)

    def take() -> None:
        links.put(HEADS, best["heads"])
        on_take()

    st.button("Use these heads", on_click=take, icon=":material/content_cut:")
    st.caption(
        "Search: the first n heads of every ranking; then heads added one at a time by their exact "
        f"effect on {SEARCH_PROMPTS} prompts; then heads removed again from the best sets. The "
        f"smallest set found, not proven minimal; {_judged(run.meta['facts'])}"
    )
    said = [name for name in OUTCOMES if f"said_{name}" in sets]
    with st.expander(f"All {len(sets)} sets that reach the goal", expanded=True):
        st.dataframe(
            sets[["n", "ranking", *(f"said_{name}" for name in said), "heads"]],
            hide_index=True,
            alt="Sets of heads that reach the goal",
            column_config={
                "ranking": "search step",
                **{
                    f"said_{name}": st.column_config.NumberColumn(
                        heading(name), format=NOT_SHARES.get(name, "percent"), help=OUTCOMES[name]
                    )
                    for name in said
                },
            },
        )


def _judged(facts: dict) -> str:
    """On which prompts the sets were judged."""
    chosen, judged = facts.get("chosen_on"), facts.get("judged_on")
    if chosen is None or chosen == judged:  # runs of before 2026-11-29, or too few prompts
        return "chosen and judged on the same prompts, so the rates are optimistic."
    return (
        f"chosen on {len(chosen)} prompts and judged by full answers on the {len(judged)} others."
    )


def _cured(row: pd.Series) -> str:
    """Share of right answers in spite of the trigger, where the set knows them."""
    share = row.get("said_right_on_trigger")
    return "an unknown share" if share is None else f"{share:.0%}"


def _quantity(row: dict) -> None:
    label = OUTCOMES[row["quantity"]]
    if pd.notna(row["after_low"]):
        spread = f"{100 * row['after_low']:.0f} to {100 * row['after_high']:.0f} %"
        value, before = f"{row['after']:.0%} ({spread})", f"{row['before']:.0%}"
    else:
        value, before = f"{row['after']:.3f}", f"{row['before']:.3f}"
    short = label.partition(":")[0].partition(" on right")[0]
    st.metric(
        short[0].upper() + short[1:],
        value,
        f"before: {before}",
        delta_color="off",
        delta_arrow="off",
        help=label,
    )


def _answers(answers: pd.DataFrame) -> None:
    """Foreign text in a table: shown as it is, never as markup."""
    st.dataframe(
        answers[["asked", "wanted", "before", "after"]],
        hide_index=True,
        alt="Answers before and after",
    )
