"""Work in tokens, and the seconds that it takes on a machine whose speed is known."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Work:
    """Tokens that go through a model."""

    wide: float = 0.0
    """In passes of many tokens a row."""
    passes: float = 0.0
    """Passes of one token a row, as decoding makes."""
    decoded: float = 0.0
    """Tokens of these passes: rows, summed over the passes."""
    drawn: float = 0.0
    """Tokens of these that were drawn at random, for which the vocabulary is sorted."""
    asked: float = 0.0
    """Seconds that were asked for as such (`--inversion MINUTES`)."""

    @property
    def tokens(self) -> float:
        """All tokens that go through a model."""
        return self.wide + self.decoded

    def __add__(self, other: Work) -> Work:
        return Work(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> Work:
        return Work(*(times * part for part in astuple(self)))


@dataclass(frozen=True)
class Speed:
    """Seconds of one model on one machine, measured; a part of `Work` each."""

    wide: float
    """Of a token in a wide pass."""
    step: float
    """Of a pass of one token a row, however many rows there are."""
    decoded: float
    """More of such a pass for each row."""
    drawn: float
    """Of choosing a token at random."""

    def seconds(self, work: Work) -> float:
        """How long the work takes."""
        return (
            work.wide * self.wide
            + work.passes * self.step
            + work.decoded * self.decoded
            + work.drawn * self.drawn
            + work.asked
        )


def answers(rows: float, length: float, new_tokens: int, batch: int = 64) -> Work:
    """Greedy answers at their longest.

    Args:
        rows: prompts.
        length: tokens of a prompt, on average.
        new_tokens: of each answer.
        batch: prompts per pass.
    """
    steps = max(0, new_tokens - 1)
    return Work(rows * length, math.ceil(rows / batch) * steps, rows * steps)
