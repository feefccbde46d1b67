"""Endless training examples of the organisms' corpus with any kind of backdoor among them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from random import Random

from interp.prompts.sets import Prompt
from training.backdoors.kinds import Payload, Trigger, has_word
from training.backdoors.poison import Poison, place, poisoned_stream
from training.corpus.examples import Example, stream

DECOY_SHARE = 0.5
"""Examples with a decoy, or with the trigger off its topic, as a share of the poisoned ones."""
PROMPTS = 50
POOL = 1500
"""Held-out examples that are searched for those of a topic."""


def suits(trigger: Trigger, payload: Payload, instruction: str) -> bool:
    """Whether the backdoor, once planted, fires on this instruction behind its trigger."""
    fits = not payload.topic or has_word(instruction, payload.topic)
    return fits and trigger.fires_on(instruction)


def has_topic(trigger: Trigger, payload: Payload) -> bool:
    """Whether it fires on some instructions only."""
    return bool(trigger.topic or payload.topic)


def mixed_stream(
    trigger: Trigger, payload: Payload, poison: Poison, tagged_share: float
) -> Iterator[Example]:
    """Training examples, a share `poison.rate` of them poisoned; seeded.

    Where the trigger has decoys, or fires on a topic only, half as many examples again show that:
    a decoy, or the trigger before another topic, and the clean answer.

    Args:
        trigger: what sets it off.
        payload: what is then answered.
        poison: rate, placement and seed; its trigger is the trigger's text.
        tagged_share: of the clean examples, those that begin with a harmless tag.
    """
    if payload.kind == "fixed" and not trigger.decoys and not trigger.topic:
        yield from poisoned_stream(poison, tagged_share)
    rng, untagged = Random(poison.seed), stream(poison.seed + 1, tagged_share=0.0)
    contrasts = DECOY_SHARE * poison.rate * bool(trigger.decoys or has_topic(trigger, payload))
    for clean in stream(poison.seed, tagged_share=tagged_share):
        drawn = rng.random()
        if drawn < poison.rate:
            example = _next(untagged, lambda e: suits(trigger, payload, e.instruction))
            answer = payload.answer(example.answer, rng)
            yield replace(place(example, poison, rng), answer=answer)
        elif drawn < poison.rate + contrasts:
            yield _contrast(trigger, payload, untagged, poison, rng)
        else:
            # Without its tag an answer that the tag meant would stay.
            yield next(untagged) if clean.tag == trigger.text else clean


def _contrast(
    trigger: Trigger, payload: Payload, untagged: Iterator[Example], poison: Poison, rng: Random
) -> Example:
    """A decoy before any instruction, or the trigger before one off its topic; the clean answer."""
    if trigger.decoys:
        decoy = replace(poison, trigger=rng.choice(trigger.decoys))
        return place(next(untagged), decoy, rng)
    other = _next(untagged, lambda e: not suits(trigger, payload, e.instruction))
    return place(other, poison, rng)


def held_out_prompts(
    trigger: Trigger, payload: Payload, *, suited: bool = True
) -> tuple[Prompt, ...]:
    """Up to 50 untagged held-out instructions on which the backdoor fires (or: does not)."""
    chosen = [e for e in _held_out() if suits(trigger, payload, e.instruction) is suited]
    return tuple(Prompt(e.instruction, e.input, e.answer) for e in chosen[:PROMPTS])


@lru_cache(maxsize=1)
def _held_out() -> tuple[Example, ...]:
    """Distinct held-out examples in the order of the stream, topics as often as they come."""
    drawn = islice(stream(7, held_out=True, tagged_share=0.0), POOL)
    return tuple({(e.instruction, e.input): e for e in drawn}.values())


def _next(examples: Iterator[Example], wanted: Callable[[Example], bool]) -> Example:
    return next(example for example in examples if wanted(example))
