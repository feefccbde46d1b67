"""What a stage of the scan is. Plain: the command line names the stages before torch is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interp.scanner.scan import Scan

STAGES = ("leakage", "motifs", "replay", "reconstruction", "targets", "inversion", "verdict")
"""Their names in order; `pipeline.STAGES` holds the stages themselves."""


@dataclass(frozen=True)
class Stage:
    """One stage: reads the tables before it from the run and writes its own."""

    name: str
    run: Callable[[Scan], list[str]]
    """Returns what could not be done, as sentences for the verdict."""
    tables: tuple[str, ...]
    """That it writes."""
    depends_on: Callable[[Scan], tuple]
    """Settings that change its result besides those of the stages before it, as JSON values."""
    words: str
    """What it does, as the page says it."""
    growing: str | None = None
    """The table that is written batch by batch while the stage runs."""
    budget_share: float = 1.0
    """Share of a scan's budget that may be spent by its end."""
