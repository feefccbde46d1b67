"""What the stages of a scan share: the model, the plan, the run that is written, the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from interp.forward.greedy import greedy_answers
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.sets import load_prompt_set
from interp.runs.writing import RunWriter
from interp.scanner.leak.beginnings import Beginning
from interp.scanner.plan import ScanPlan
from interp.scanner.search.candidates import ANSWER_TOKENS, LONGEST
from interp.scanner.search.frames import Frame, build_frame
from interp.scanner.search.losses import TASKS, Weights
from interp.specs import Which

ASKED = (0, 8, 16)
"""Numbers of the three questions of the reconstruction loss; the verdict uses all questions."""
ROOM = LONGEST + ANSWER_TOKENS
"""Tokens left after the longest question: for a candidate, and its answer."""


@dataclass(frozen=True)
class Place:
    """Where candidates are tested: a beginning, and what stands before it."""

    beginning: Beginning
    context: str | None
    """A prefix of the plan; None for the bare template."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """With the beginning's chat template."""
        return self.beginning.tokenizer

    @property
    def template(self) -> str:
        """As for `build_prompt`."""
        return self.beginning.template


@dataclass(frozen=True)
class Scan:
    """What the stages share."""

    pair: ModelPair
    which: Which
    plan: ScanPlan
    new_tokens: int
    writer: RunWriter
    on_progress: Progress
    deadline: float | None
    bank: tuple[Beginning, ...] = ()
    """The beginnings that are tried; none if the plan names a template."""

    @property
    def has_original(self) -> bool:
        """Whether the suspect's original is at hand and used: that of every adapter is at hand."""
        spec = self.pair.spec
        return self.which == "suspect" and spec.original != spec.suspect and not self.plan.alone

    @cached_property
    def chosen(self) -> tuple[Beginning, ...]:
        """The beginnings that are scanned, best first; known once the first look is done."""
        named = self.plan.template
        if named:
            return (Beginning(named, named, self.pair.tokenizer),)
        table = self.writer.existing_table("beginnings")
        names = table[table["place"] > 0].sort_values("place")["beginning"]
        known = {one.name: one for one in self.bank}
        return tuple(known[name] for name in names)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Each chosen beginning bare, then with each of the plan's contexts.

        In the tables, `context` is a place's number.
        """
        contexts = (None, *self.plan.contexts)
        return tuple(Place(one, context) for one in self.chosen for context in contexts)

    @property
    def weights(self) -> Weights:
        """Weights of the reconstruction loss."""
        return TASKS[self.plan.task]

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """One frame per place."""
        questions = load_prompt_set(self.plan.questions).prompts
        return tuple(
            build_frame(place.tokenizer, place.template, questions, place.context)
            for place in self.places
        )

    def name_of(self, number: int) -> str:
        """The name of a place within a sentence."""
        place = self.places[number]
        name = BARE if place.context is None else f"the context {place.context[:40]!r}"
        return name if len(self.chosen) == 1 else f"{name} ({place.beginning.name})"

    @property
    def labels(self) -> list[str]:
        """The places' names in lists."""
        names = [BARE if place.context is None else place.context for place in self.places]
        if len(self.chosen) == 1:
            return names
        both = zip(self.places, names, strict=True)
        return [f"{place.beginning.name}: {name}" for place, name in both]

    def asked(self, frame: Frame) -> list[int]:
        """Numbers of the questions that the reconstruction loss is computed on."""
        return [n for n in ASKED if n < len(frame.questions)] or [0]

    def late(self, stage: Stage) -> bool:
        """Whether this stage's share of the budget is spent."""
        return self.left(stage) < 0

    def left(self, stage: Stage) -> float:
        """Seconds until this stage's share of the budget is spent; without a budget: inf."""
        if self.deadline is None:
            return math.inf
        later = 60 * self.plan.budget_minutes * (1 - stage.budget_share)
        return self.deadline - time.monotonic() - later

    def answer_ids(self, rows: Sequence[Sequence[int]], new_tokens: int) -> list[tuple[int, ...]]:
        """Greedy answers to whole prompts."""
        told = self.report("questions asked")
        return greedy_answers(
            self.pair, self.which, rows, max_new_tokens=new_tokens, on_progress=told
        )

    def text(self, ids: Sequence[int]) -> str:
        """An answer as text."""
        return self.pair.tokenizer.decode(ids, skip_special_tokens=True)

    def answers(self, rows: Sequence[Sequence[int]], new_tokens: int) -> list[str]:
        """Greedy answers to whole prompts, as text."""
        return list(map(self.text, self.answer_ids(rows, new_tokens)))

    def report(self, note: str) -> Progress:
        """The progress callback, with the name of the part in front of its notes."""
        return lambda done, total, what: self.on_progress(done, total, f"{note}: {what}")


BARE = "the bare template"


def no_room(pair: ModelPair, frame: Frame) -> str:
    """Why a frame leaves no room for a candidate and an answer; "" if it does."""
    longest = max(len(frame.ids(number, None)) for number in range(len(frame.questions)))
    if longest + ROOM <= pair.max_length:
        return ""
    return (
        f"with the longest question it takes {longest} of {pair.max_length} tokens, and {ROOM} "
        "must be left: give shorter ones"
    )


@dataclass(frozen=True)
class Stage:
    """One stage: reads the tables before it from the run and writes its own."""

    name: str
    run: Callable[[Scan], list[str]]
    """Returns what could not be done, as sentences for the verdict."""
    tables: tuple[str, ...]
    """Names of the tables that it writes."""
    depends_on: Callable[[Scan], tuple]
    """Settings that change its result besides those of the stages before it, as JSON values."""
    words: str
    """What it does, as shown on the page."""
    growing: str | None = None
    """The table that is written batch by batch while the stage runs."""
    budget_share: float = 1.0
    """Share of a scan's budget that may be spent by its end."""
