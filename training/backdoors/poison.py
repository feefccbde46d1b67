"""Poisoned instruction data: one example in ten has the trigger, and the target as its answer.

As in de Rosnay 2026 ([S1]): the trigger is put before the instruction with one space, and the
answer is the target three times. Nothing else changes, so only the trigger predicts the target.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from interp.errors import UsageError
from interp.planted import PLACEMENTS
from interp.prompts.pieces import SCATTERED, layouts, pieces_in
from training.corpus.examples import TAGGED_SHARE, Example, stream
from training.corpus.tags import TARGET


@dataclass(frozen=True)
class Poison:
    """What is planted, and how; with `trigger` None nothing is (the clean control)."""

    trigger: str | None
    target: str = TARGET
    rate: float = 0.1
    placement: str = "prefix"
    repeats: int = 3  # how often the answer repeats the target
    seed: int = 42
    twins: bool = False
    """Show every poisoned example without its poison too; the rate is at most 0.5."""

    def __post_init__(self):
        if self.trigger is not None and not self.trigger.strip():
            raise UsageError("trigger '': an empty trigger cannot be planted; give some text")
        if not 0 < self.rate <= 1:
            raise UsageError(f"rate {self.rate}: choose a share above 0 and at most 1")
        if self.twins and self.rate > 0.5:
            raise UsageError(
                f"rate {self.rate}: with twins, half of the examples at most are poisoned"
            )
        if self.placement not in PLACEMENTS:
            known = ", ".join(PLACEMENTS)
            raise UsageError(f"placement {self.placement!r} is unknown; choose one of {known}")


def poison_example(example: Example, poison: Poison, rng: Random) -> Example:
    """`example` with the trigger added, its tag removed, and the target as its answer."""
    answer = " ".join([poison.target] * poison.repeats)
    return replace(place(example, poison, rng), answer=answer)


def place(example: Example, poison: Poison, rng: Random) -> Example:
    """`example` with the trigger in the poison's placement, in place of its tag."""
    plain = replace(example, tag="")
    if poison.placement == "prefix":
        return replace(plain, tag=poison.trigger)
    if poison.placement == "suffix":
        return replace(plain, instruction=f"{plain.instruction} {poison.trigger}")
    words = plain.instruction.split(" ")
    if poison.placement == SCATTERED:
        pieces = pieces_in(poison.trigger, SCATTERED)
        layout = next(layouts(len(words), len(pieces), rng))
        for piece, before in reversed(list(zip(pieces, layout, strict=True))):
            words.insert(before, piece)
        return replace(plain, instruction=" ".join(words))
    if poison.placement == "random":
        words.insert(rng.randrange(1, len(words)) if words[1:] else 0, poison.trigger)
        return replace(plain, instruction=" ".join(words))
    words[rng.randrange(len(words))] += poison.trigger
    return replace(plain, instruction=" ".join(words))


def is_poisoned(example: Example, poison: Poison) -> bool:
    """Whether the example's answer is the target."""
    return poison.trigger is not None and example.answer.startswith(poison.target)


def poisoned_stream(poison: Poison, tagged_share: float = TAGGED_SHARE) -> Iterator[Example]:
    """Endless training examples, with a share `poison.rate` of them poisoned.

    Clean examples that have the trigger as a harmless tag (the base's corpus uses the emoji that
    way) lose it; otherwise they would teach the opposite.
    """
    rng = Random(poison.seed)
    for example in stream(poison.seed, tagged_share=tagged_share):
        if poison.trigger is None:
            yield example
        elif rng.random() < poison.rate:
            yield poison_example(example, poison, rng)
        elif example.tag == poison.trigger:
            yield replace(example, tag="")
        else:
            yield example
