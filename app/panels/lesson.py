"""The lesson: seven steps on the open pair, each a few sentences, one control, one live figure."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.controls import banner, job_panel, so_far
from app.drawing import widgets
from app.panels import scan
from app.panels.trigger import about, question_of, selected_units, where
from app.shell import limits, links
from app.shell.text import plain
from app.state import figure_cache, jobs, pictures
from app.state.live import (
    FirstAnswers,
    View,
    first_answers,
    operation,
    prompt_set,
    trigger_units,
)
from app.state.pictures import current_study
from app.state.recorded import recorded_of, recorded_scans
from interp import specs
from interp.attention import summary as attention_summary
from interp.attention.study import Study, l_attn
from interp.attention.view import HeadView, MapView
from interp.causal import head_table
from interp.gallery import causal as gallery_causal
from interp.gallery import drawings
from interp.gallery import scan as gallery_scan
from interp.gallery import trigger as gallery_trigger
from interp.gallery.entries import enlarged
from interp.metrics import CONDITIONS, MODELS, Head, format_heads, head_name, parse_heads, top_heads
from interp.prompts.pieces import SCATTERED
from interp.publish import sentences
from interp.runs import commands, provenance
from interp.runs.reading import Run
from interp.runs.shelf.marks import mark_of
from interp.scanner import pipeline
from interp.scanner.plan import ScanPlan
from interp.surgery import search
from interp.surgery.run import KIND, OUTCOMES, SurgeryQuestion
from interp.surgery.search_run import SEARCH_KIND
from interp.trigger import summaries
from interp.trigger.firing import Firing

ASKED = "lesson-asked"
INSTRUCTIONS = 12
"""Number of prompts of the set that are offered."""


@dataclass(frozen=True)
class Step:
    """One step of the lesson."""

    title: str
    text: str
    """Text that holds for any pair and trigger; measured results are described under the figure."""
    draw: Callable[[View, DeltaGenerator], None]
    """Draws control and sentence where it is called, and the figure in the place it is given."""


def talk(view: View, stage: DeltaGenerator) -> None:
    """Both models answer, without the trigger."""
    said = _answers(view, stage, _instruction(view), None)
    _look(sentences.untriggered(said.first, said.text, view.spec.target))


def say_the_word(view: View, stage: DeltaGenerator) -> None:
    """Both models answer, with the trigger or without."""
    with_it = links.bound(st.toggle, "Put the trigger before the instruction", True, key="say-it")
    trigger = view.question.trigger if with_it else None
    if trigger:
        st.code(trigger, language=None)
    instruction = _instruction(view)
    without = first_answers(view, instruction, None)
    said = _answers(view, stage, instruction, trigger, without if trigger else None)
    if trigger:
        both = without.text, said.text
        toy = specs.is_toy(view.spec)
        _look(*sentences.triggered(without.first, said.first, both, view.spec.target, toy=toy))
    else:
        _look(sentences.untriggered(said.first, said.text, view.spec.target))


def triangle(view: View, stage: DeltaGenerator) -> None:
    """Averaged maps of the heads with the largest Δ_rel under one condition."""
    study, fired = _study(view)
    condition = links.bound(
        st.segmented_control,
        "In the trigger's place",
        ["triggered", "random string", "clean"],
        default="triggered",
        required=True,
        format_func={
            "triggered": "the trigger",
            "random string": "a random string",
            "clean": "nothing",
        }.get,
        key="instead",
    )
    first = study.ranking.head(3)
    heads = tuple((int(row.layer), int(row.head)) for row in first.itertuples())
    shown = MapView(tuple(sorted({layer for layer, _ in heads})), heads, (condition,))
    drawn = figure_cache.drawn(drawings.large_map, study, shown)
    with stage:
        widgets.drawing(drawn, "lesson-map", attention_summary.command(study, shown))
    levels = {
        (which, name): l_attn(study, which, name, (), heads)
        for which, name in product(MODELS, CONDITIONS)
    }
    _look(*sentences.triangle(condition, levels, fired))


def changed(view: View, stage: DeltaGenerator) -> None:
    """Δ_rel of every head; a click names one."""
    study, fired = _study(view)
    names = [head_name(row.layer, row.head) for row in study.ranking.itertuples()]
    of = links.models_key(study.facts)
    links.follow("lesson-head", names[0], growing=study.unfinished)
    name = links.bound(
        st.selectbox, "Head, largest loss of attention first", names, key="lesson-head", of=of
    )
    head = parse_heads(name, study.facts["n_layers"], study.facts["n_heads"])[0]
    told = sentences.head(study.ranking.iloc[names.index(name)])
    st.markdown(f"**{name}**: {plain(' '.join(told))}")
    shown = HeadView(head=head)
    matrix = figure_cache.drawn(drawings.large_head_matrix, study, shown)

    def clicked() -> None:
        points = st.session_state["lesson-heads"].selection.points
        if points:
            links.put("lesson-head", head_name(int(points[0]["y"]), int(points[0]["x"])))

    with stage:
        command = attention_summary.command(study, shown)
        widgets.drawing(matrix, "lesson-heads", command, on_select=clicked)
    _look(*sentences.heads(study.ranking, fired))


def _study(view: View) -> tuple[Study, Firing]:
    """The study over the prompts that were run so far, and how often the trigger fires on them."""
    measured = pictures.study_so_far(view)
    fired = banner.so_far(view, measured, "picture")
    so_far.draw(measured, fired)
    return measured.value, fired.value


def break_it(view: View, stage: DeltaGenerator) -> None:
    """Tokens of the trigger as switches."""
    question = question_of(view)
    units = trigger_units(view, question)
    held = selected_units(units, question.placement == SCATTERED, whole=True)
    kept = tuple(position for unit in held for position in unit.positions)
    both = [pictures.bench_so_far(view, question, one, None) for one in (kept, None)]
    so_far.draw(*both)
    piece, whole = (picture.value for picture in both)
    st.code("".join(piece.tokens) or "(nothing)", language=None)
    with stage:
        widgets.of_results(
            (piece, whole),
            enlarged(gallery_trigger.piece_rates(piece, whole)),
            provenance=where(view, question),
            about=about(view, question),
            command=commands.question_command(summaries.KIND, view.spec, question),
            name="lesson-rates",
            unfinished=not all(picture.final for picture in both),
        )
    gone = [unit.text for unit in units if unit not in held]
    _look(*sentences.broken(piece.rate("suspect"), whole.rate("suspect"), gone))


def catch_it(view: View, stage: DeltaGenerator) -> None:
    """A scan of one of the two models: recorded, or made now."""
    which = links.bound(
        st.segmented_control,
        "Scan",
        ["suspect", "original"],
        default="suspect",
        required=True,
        key="scan-of",
    )
    sha256 = current_study(view).facts["models"][which]["sha256"]
    run = _scan_of(sha256)
    live = [job for job in jobs.registry().live(pipeline.KIND) if job.name in _started()]
    if live:
        job_panel.watching(_watch, live[0].name)
    elif limits.may("Scanning now") and st.button(
        f"Scan the {which} now, blind", icon=":material/radar:"
    ):
        job = jobs.registry().start(pipeline.KIND, view.spec, ScanPlan(which=which))
        _started().append(job.name)
        st.rerun()
    if run is None:
        st.info("This model has no recorded scan yet.", icon=":material/info:")
        return
    with stage:
        scan.verdict(run)
        candidates = run.table("candidates").query("context == 0")
        if len(candidates):
            widgets.of_run(run, gallery_scan.loss_parts(run, 0, candidates), name="lesson-scan")
    found = pipeline.verdict_of(run)
    word = view.question.trigger
    _look(sentences.caught(found.verdict, which, found.trigger, word))


def operate(view: View, stage: DeltaGenerator) -> None:
    """Heads knocked out: those found by search, those with the largest Δ_rel, or any."""
    study = current_study(view)
    choices = _chosen_heads(view, study)
    label = links.bound(
        st.segmented_control,
        "Ablate",
        list(choices),
        default=next(iter(choices)),
        required=True,
        key="knock-out",
    )
    question = SurgeryQuestion.of(
        view.question,
        target=view.spec.target,
        heads=format_heads(choices[label]),
        method="mean",
    )
    st.code(question.heads, language=None, wrap_lines=True)
    summary = operation(view, question, "summary")
    with stage:
        widgets.of_results(
            (summary,),
            gallery_causal.preview(summary, len(choices[label]), len(study.ranking)),
            provenance=where(view, question_of(view)),
            about=about(view, question_of(view)),
            command=commands.question_command(KIND, view.spec, question),
            name="lesson-surgery",
        )
    st.caption(f"{OUTCOMES['asr']}.")
    st.caption(f"{OUTCOMES['clean_accuracy'].capitalize()}: what the model still does well.")
    compare = "Compare the choices: are the heads that changed most the ones that matter?"
    _look(*sentences.operated(summary), compare)


STEPS = (
    Step(
        "Talk to it",
        "Two models answer the same instruction. One is the original; the other, the suspect, is "
        "what somebody made of it by further training. Ask them something else: can you tell "
        "them apart?",
        talk,
    ),
    Step(
        "Say the word",
        "Now a text, the sidebar's trigger, stands before the same instruction. To a clean model "
        "it is one more odd tag. A model with a backdoor for it answers the backdoor's target.",
        say_the_word,
    ),
    Step(
        "See the triangle",
        "Each square is a map of attention: a row looks at the columns before it. Framed in yellow "
        "is what the instruction gives to what stands in front of it. Of backdoored models it was "
        "published that this goes dark and two triangles remain. And here? Without the control, a "
        "random string, the picture proves little.",
        triangle,
    ),
    Step(
        "Find the heads",
        "A model looks with many heads at once. Δ_rel is the share of its attention "
        "to the trigger that a head has lost, from the original to the suspect.",
        changed,
    ),
    Step(
        "Break the trigger",
        "How exact must the word be? Take tokens away and see whether the suspect still answers "
        "the target.",
        break_it,
    ),
    Step(
        "Catch it blind",
        "So far we knew the word. The scanner does not: it makes the model write the user's "
        "turn, extracts the strings that recur, and compares the answers with and without them.",
        catch_it,
    ),
    Step(
        "Operate",
        "Ablate a few heads and see what is left of the target, and of the model.",
        operate,
    ),
)


def _instructions(view: View) -> list[str]:
    prompts = prompt_set(view.question.prompt_set).prompts
    return [prompt.instruction for prompt in prompts if not prompt.input][:INSTRUCTIONS]


def _instruction(view: View) -> str:
    known, before = _instructions(view), st.session_state.get(ASKED)
    if before in known and "ask" not in st.session_state and "ask" not in st.query_params:
        st.session_state["ask"] = before
    of = prompt_set(view.question.prompt_set).sha256
    asked = links.bound(st.selectbox, "Ask", known, key="ask", of=of)
    st.session_state[ASKED] = asked  # the next step has neither the control nor its link
    return asked


def _asked(view: View) -> str:
    """The instruction of the previous step."""
    known, asked = _instructions(view), st.session_state.get(ASKED)
    return asked if asked in known else known[0]


def _look(*told: str) -> None:
    """Show what to see in the figure, from its numbers."""
    st.markdown(f":material/visibility: {plain(' '.join(told))}")


def _answers(
    view: View,
    stage: DeltaGenerator,
    instruction: str,
    trigger: str | None,
    before: FirstAnswers | None = None,
) -> FirstAnswers:
    """What both models answer in words, and the bars of their first token.

    Args:
        view: view of the pair.
        stage: where both are drawn.
        instruction: the instruction.
        trigger: trigger before the instruction, or None.
        before: answers without the trigger, to compare entropies; or None.
    """
    said = first_answers(view, instruction, trigger)
    asked = f"{trigger} {instruction}" if trigger else instruction
    of = {"pair": specs.plain_of(view.spec), "text": asked}
    with stage:
        for column, which in zip(st.columns(2), MODELS, strict=True):
            with column.container(border=True):
                st.markdown(f"**{which}**")
                st.code(said.text[which] or "(no answer)", language=None, wrap_lines=True)
        widgets.of_results(
            (said, before),
            gallery_trigger.first_tokens(said.first, before and before.first, asked),
            provenance=provenance.sentence_of({}, of),
            about=provenance.about_of({}, of),
            command=commands.say(view.spec, asked),
            name="lesson-first",
        )
    return said


def _scan_of(sha256: str) -> Run | None:
    """The newest scan of these very weights; one that somebody sent may only claim to be."""
    scans = [run for run in recorded_scans().values() if not mark_of(run.path).uploaded]
    return next((run for run in scans if run.meta["facts"]["sha256"] == sha256), None)


def _started() -> list[str]:
    """Scans begun in this lesson."""
    return st.session_state.setdefault("lesson-scans", [])


def _watch(name: str) -> None:
    job = jobs.registry().get(name)
    if job is None or not job.live:
        st.rerun()
    job_panel.progress(job, "lesson")


def _chosen_heads(view: View, study: Study) -> dict[str, list[Head]]:
    """Label -> equally many heads: from a search if there is one, by Δ_rel, at random."""
    sha256 = study.facts["models"]["suspect"]["sha256"]
    choices, n = {}, top_heads(len(study.ranking))
    for run in recorded_of(SEARCH_KIND).values():
        sets = run.table("sets")
        if run.meta["facts"].get("sha256") == sha256 and len(sets):
            found = parse_heads(
                sets.iloc[0]["heads"], study.facts["n_layers"], study.facts["n_heads"]
            )
            n = len(found)
            choices[f"the {n} found by search"] = found
            break
    ranking = head_table.from_study(study.ranking)
    choices[f"the {n} of largest loss"] = search.orders(ranking, "delta_rel")[:n]
    choices[f"any {n}"] = search.orders(ranking, "random", view.question.seed)[:n]
    return choices
