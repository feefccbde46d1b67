"""What to measure on a pair: trigger, prompts, placement, template. Kinds of run add fields.

Plain values; nothing heavy is imported. All fields are keyword-only. A run records
`dataclasses.asdict` of its question as `asked`.
"""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

from interp.prompts.pieces import SCATTERED

ONE_PLACE = ("prefix", "suffix", "glued", "after", "random")
"""Placements of the whole trigger in one place."""
PLACEMENTS = (*ONE_PLACE, SCATTERED)
"""Where a trigger may be put."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A trigger in the prompts of a set: the fields that every question has."""

    trigger: str
    prompt_set: str
    """Name of a set that ships, or a file, as for `load_prompt_set`."""
    template: str = "alpaca"
    placement: str = "prefix"
    seed: int = 0
    """Seed of everything random, such as random strings and the place of a glued trigger."""

    prompt: ClassVar[int | None] = None
    """Not a field: this kind of question is about the whole set (see `AttentionQuestion`)."""
    text: ClassVar[str | None] = None
    rows: ClassVar[str] = "user"

    @classmethod
    def of(cls, other: "Question", **own) -> Self:
        """A question of this kind about the same trigger and prompts as another question.

        Args:
            other: source of the fields that both kinds have.
            **own: fields that only this kind has, and fields with other values.
        """
        both = {field.name for field in fields(cls)} & {field.name for field in fields(other)}
        return cls(**{name: getattr(other, name) for name in both} | own)

    def over_set(self) -> Self:
        """The same question about every prompt of the set."""
        return self


@dataclass(frozen=True, kw_only=True)
class TargetQuestion(Question):
    """A question about a trigger and its target."""

    target: str
    """The text with which a triggered answer begins."""


@dataclass(frozen=True, kw_only=True)
class AttentionQuestion(Question):
    """A question about attention, also on one prompt or on the user's own text."""

    prompt: int | None = None
    """One prompt of the set, or None for the average over all."""
    text: str | None = None
    """The user's own instruction instead of the set; a trigger in it is used in its place."""
    rows: str = "user"
    """Query rows of L_attn, one of `specs.ROWS`; `instruction` in studies before 2026-11-29."""

    def over_set(self) -> Self:
        """The same question about every prompt of the set."""
        return replace(self, prompt=None, text=None)
