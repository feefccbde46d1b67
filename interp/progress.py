"""Progress of long jobs, and the seconds that a thread has waited for a pair in use."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int, str], None]
"""Called as (done, total, note)."""


class _Waited(threading.local):
    seconds = 0.0


_WAITED = _Waited()


@contextmanager
def counted() -> Iterator[None]:
    """Count the time spent inside the block as waiting time."""
    start = time.perf_counter()
    try:
        yield
    finally:
        _WAITED.seconds += time.perf_counter() - start


@contextmanager
def holding(lock: threading.RLock) -> Iterator[None]:
    """Hold a lock. The time until it is acquired counts as waiting time."""
    with counted():
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def waited() -> float:
    """Seconds that this thread has waited so far."""
    return _WAITED.seconds


def nth_of(n: int, step: int, note: str, on_progress: Progress | None) -> Progress | None:
    """Report the progress of one of n equal steps as progress of the whole."""
    if on_progress is None:
        return None
    return lambda done, total, _: on_progress(step * total + done, n * total, note)
