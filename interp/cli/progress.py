"""Progress on stderr: one line that is overwritten, or in a log one line every half minute."""

import sys
import time
from collections.abc import Callable

EVERY = 30.0
"""Seconds between two lines if the output is not a terminal."""


class Reporter:
    """Progress callback for long work, called as (done, total, note).

    A new stage begins when the total changes or the count falls. The estimate covers one stage.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """Args: clock: returns seconds; tests pass their own."""
        self._clock = clock
        self._total, self._done = -1, 0
        self._begun = (0.0, 0)
        self._said = 0.0
        self._ended = False

    def __call__(self, done: int, total: int, note: str) -> None:
        """Show progress if enough time has passed."""
        now = self._clock()
        if total != self._total or done < self._done:
            self._begun, self._said, self._ended = (now, done), now, False
        self._total, self._done = total, done
        if sys.stderr.isatty():
            end = "\n" if done >= total else ""
            print(f"\r\033[K{note} {_share(done, total)}", end=end, file=sys.stderr, flush=True)
        elif (done >= total and not self._ended) or now - self._said >= EVERY:
            self._said, self._ended = now, done >= total
            left = self._left(now, done, total)
            print(f"{note} {_share(done, total)}{left}", file=sys.stderr, flush=True)

    def _left(self, now: float, done: int, total: int) -> str:
        """`, about 3 min left`; empty at the end, or before an estimate is possible."""
        begun, first = self._begun
        if done >= total or done <= first:
            return ""
        return f", about {duration((now - begun) / (done - first) * (total - done))} left"


def duration(seconds: float) -> str:
    """Seconds as text, rounded up, in a suitable unit.

    >>> duration(4), duration(100), duration(8000)
    ('4 s', '2 min', '2 h 14 min')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = -(-int(seconds) // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _share(done: int, total: int) -> str:
    return f"{100 * done // max(1, total)} %"


report = Reporter()
"""The reporter of this process."""
