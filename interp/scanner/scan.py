"""What the stages of a scan share: the model, the plan, the run that is written, the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from interp.forward.greedy import greedy_answers
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.sets import load_prompt_set
from interp.runs.writing import RunWriter
from interp.scanner.plan import ScanPlan
from interp.scanner.search.frames import Frame, build_frame
from interp.scanner.search.losses import TASKS, Weights
from interp.specs import Which

ASKED = (0, 8, 16)
"""Numbers of the three questions of the reconstruction loss; the verdict uses all questions."""


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

    @property
    def contexts(self) -> tuple[str | None, ...]:
        """None (the bare template), then the plan's contexts."""
        return (None, *self.plan.contexts)

    @property
    def weights(self) -> Weights:
        """Weights of the reconstruction loss."""
        return TASKS[self.plan.task]

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """One frame per context."""
        questions = load_prompt_set(self.plan.questions).prompts
        build = build_frame
        return tuple(
            build(self.pair.tokenizer, self.plan.template, questions, context)
            for context in self.contexts
        )

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


def name_of(context: str | None) -> str:
    """The name of a context within a sentence."""
    return BARE if context is None else f"the context {context[:40]!r}"


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
