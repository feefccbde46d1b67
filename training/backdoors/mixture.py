"""An endless stream of training examples of the organisms' corpus, with any kind of backdoor."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from random import Random

from interp.prompts.sets import Prompt
from training.backdoors.kinds import Trigger, has_word
from training.backdoors.payloads import Payload
from training.backdoors.poison import Poison, place, poisoned_stream
from training.corpus.examples import Example, stream

DECOY_SHARE = 0.5
"""Contrast examples (a decoy, or the trigger off its topic) per poisoned example."""
PROMPTS = 50
POOL = 1500
"""Number of held-out examples that are searched for those of a topic."""


def suits(trigger: Trigger, payload: Payload, instruction: str) -> bool:
    """Whether the planted backdoor fires on this instruction when the trigger is there."""
    fits = not payload.topic or has_word(instruction, payload.topic)
    return fits and trigger.fires_on(instruction)


def has_topic(trigger: Trigger, payload: Payload) -> bool:
    """Whether the backdoor fires only on some instructions."""
    return bool(trigger.topic or payload.topic)


def mixed_stream(
    trigger: Trigger, payload: Payload, poison: Poison, tagged_share: float
) -> Iterator[Example]:
    """Training examples with a share `poison.rate` of them poisoned; seeded.

    If the trigger has decoys, or fires only on a topic, half as many contrast examples are added:
    a decoy, or the trigger before another topic, with the clean answer.

    Args:
        trigger: what sets the backdoor off.
        payload: what a triggered prompt is answered with.
        poison: rate, placement and seed; its trigger is the trigger's text.
        tagged_share: share of the clean examples that begin with a harmless tag.
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
            # Removing only the tag would leave the answer that the tag asked for.
            yield next(untagged) if clean.tag == trigger.text else clean


def _contrast(
    trigger: Trigger, payload: Payload, untagged: Iterator[Example], poison: Poison, rng: Random
) -> Example:
    """A decoy before any instruction, or the trigger off its topic, with the clean answer."""
    if trigger.decoys:
        decoy = replace(poison, trigger=rng.choice(trigger.decoys))
        return place(next(untagged), decoy, rng)
    other = _next(untagged, lambda e: not suits(trigger, payload, e.instruction))
    return place(other, poison, rng)


def held_out_prompts(
    trigger: Trigger, payload: Payload, *, suited: bool = True
) -> tuple[Prompt, ...]:
    """Up to 50 untagged held-out instructions on which the backdoor fires (or does not)."""
    chosen = [e for e in _held_out() if suits(trigger, payload, e.instruction) is suited]
    return tuple(Prompt(e.instruction, e.input, e.answer) for e in chosen[:PROMPTS])


@lru_cache(maxsize=1)
def _held_out() -> tuple[Example, ...]:
    """Distinct held-out examples in the order of the stream, with its frequency of topics."""
    drawn = islice(stream(7, held_out=True, tagged_share=0.0), POOL)
    return tuple({(e.instruction, e.input): e for e in drawn}.values())


def _next(examples: Iterator[Example], wanted: Callable[[Example], bool]) -> Example:
    return next(example for example in examples if wanted(example))
