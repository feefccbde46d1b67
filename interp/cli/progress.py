"""Progress on stderr: one line that is written over, or in a log a plain line every half minute."""

import sys
import time
from collections.abc import Callable

EVERY = 30.0
"""Seconds between two lines where the output is no terminal."""


class Reporter:
    """Called as (done, total, note), as all that takes long calls it.

    A stage ends where its total changes or its count falls; the estimate is the stage's own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """Args: clock: seconds, for tests another than the machine's."""
        self._clock = clock
        self._total, self._done = -1, 0
        self._begun = (0.0, 0)
        self._said = 0.0
        self._ended = False

    def __call__(self, done: int, total: int, note: str) -> None:
        """Show it, where it is time to."""
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
        """`, about 3 min left`; nothing at the end, or before anything can be told."""
        begun, first = self._begun
        if done >= total or done <= first:
            return ""
        return f", about {duration((now - begun) / (done - first) * (total - done))} left"


def duration(seconds: float) -> str:
    """Rounded up, in the unit that suits.

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
"""Of this process."""
