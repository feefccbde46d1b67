"""What is asked of a pair: trigger, prompts, template, placement, seed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """What to measure; everything that changes the numbers besides the models themselves."""

    trigger: str
    prompt_set: str
    """Name of a set that ships, or a file, as `prompts.load_prompt_set` takes it."""
    prompt: int | None = None
    """One prompt of the set, or None for the average over all."""
    text: str | None = None
    """The user's own instruction instead of the set; a trigger in it is used where it stands."""
    template: str = "alpaca"
    placement: str = "prefix"
    seed: int = 0
    """Of the random strings and of a glued trigger's place."""
    rows: str = "user"
    """Of L_attn, one of `specs.ROWS`; studies of before 2026-11-29 have `instruction`."""
