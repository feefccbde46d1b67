"""What is asked of a pair: which trigger, in which prompts, told how. Every kind of run adds to it.

Plain values; nothing heavy is imported. All fields are given by name, and `dataclasses.asdict` of
a question, flat, is what a run records as `asked`.
"""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self


@dataclass(frozen=True, kw_only=True)
class Question:
    """A trigger in the prompts of a set; what every question has."""

    trigger: str
    prompt_set: str
    """Name of a set that ships, or a file, as `load_prompt_set` takes it."""
    template: str = "alpaca"
    placement: str = "prefix"
    seed: int = 0
    """Of everything drawn at random, such as random strings and a glued trigger's place."""

    prompt: ClassVar[int | None] = None
    """No field: such a question is about the whole set (see `AttentionQuestion`)."""
    text: ClassVar[str | None] = None
    rows: ClassVar[str] = "user"

    @classmethod
    def of(cls, other: "Question", **own) -> Self:
        """This kind's question about the same trigger and prompts as another question.

        Args:
            other: the fields that both kinds have are taken from it.
            **own: the fields of this kind alone, and those that are to differ.
        """
        both = {field.name for field in fields(cls)} & {field.name for field in fields(other)}
        return cls(**{name: getattr(other, name) for name in both} | own)

    def over_set(self) -> Self:
        """The same question about every prompt of the set."""
        return self


@dataclass(frozen=True, kw_only=True)
class TargetQuestion(Question):
    """A question about a trigger and the answer that it sets off."""

    target: str
    """What the answer begins with, as text."""


@dataclass(frozen=True, kw_only=True)
class AttentionQuestion(Question):
    """A question about attention: also of one prompt, or of the user's own."""

    prompt: int | None = None
    """One prompt of the set, or None for the average over all."""
    text: str | None = None
    """The user's own instruction instead of the set; a trigger in it is used where it stands."""
    rows: str = "user"
    """Of L_attn, one of `specs.ROWS`; studies of before 2026-11-29 have `instruction`."""

    def over_set(self) -> Self:
        """The same question about every prompt of the set."""
        return replace(self, prompt=None, text=None)
