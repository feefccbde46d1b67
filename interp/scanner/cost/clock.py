"""The time of one scan: what is left of its budget, and of the part of the stage under way."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from interp.scanner.cost.work import Speed, Work

TRUSTED = 0.3
"""Seconds of answers from which their own pace is taken instead of the measured speed."""


@dataclass
class Clock:
    """Without a budget everything fits, and nothing is ever late."""

    now: Callable[[], float] = time.monotonic
    """In seconds."""
    begun: float = 0.0
    """When the scan began, on `now`."""
    ends: float = math.inf
    """When the budget is spent, on `now`."""
    until: float = math.inf
    """Until when the stage under way may go on."""
    speed: Speed | None = None
    """Of the model on this machine; None until it is measured."""
    spare: float = 0.0
    """Seconds of the budget that are planned for nothing."""
    behind: float = 0.0
    """Seconds that the stages behind the one under way take at least, in the places foreseen."""
    places: int = 0
    """Places (see `scan.Place`) that the estimate is made for; 0: there is none yet."""
    _taken: float = 0.0
    _expected: float = 0.0

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return math.isfinite(self.ends)

    @property
    def left(self) -> float:
        """Seconds that the stage under way still has."""
        return self.until - self.now() if self.limited else math.inf

    @property
    def late(self) -> bool:
        """Whether the stage's part of the budget is spent."""
        return self.left < 0

    def seconds(self, work: Work) -> float:
        """How long some work takes; 0 before the speed is known."""
        return self.speed.seconds(work) if self.speed else 0.0

    def answering(self, work: Work) -> float:
        """How long answers take, by how long this scan's took so far."""
        pace = self._taken / self._expected if self._expected > TRUSTED else 1.0
        return pace * self.seconds(work)

    def answered(self, work: Work, seconds: float) -> None:
        """Some answers took so long."""
        self._taken += seconds
        self._expected += self.seconds(work)

    def holds_another(self) -> bool:
        """Whether the budget holds the least of the later stages in twice as many places."""
        return self.now() + 2 * self.behind + self.spare <= self.ends

    def fits(self, work: Work, kept: float = 0.0) -> bool:
        """Whether the stage has the time for some work, and then as much as is kept."""
        return self.seconds(work) + kept <= self.left

    def still_holds(self, work: Work) -> bool:
        """Whether answers that a verdict hangs on end a twentieth after the budget at the latest.

        They may take what is kept of every budget, and as much again behind its end.
        """
        return self.now() + self.answering(work) <= self.ends + self.spare

    def fits_answers(self, work: Work, kept: float = 0.0) -> bool:
        """As `fits`, of answers: by how long this scan's answers took so far."""
        return self.answering(work) + kept <= self.left
