"""Seconds that a thread has waited for a pair that others were using."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class _Waited(threading.local):
    seconds = 0.0


_WAITED = _Waited()


@contextmanager
def counted() -> Iterator[None]:
    """The block is one of waiting."""
    start = time.perf_counter()
    try:
        yield
    finally:
        _WAITED.seconds += time.perf_counter() - start


@contextmanager
def holding(lock: threading.RLock) -> Iterator[None]:
    """Hold a lock; the time until it is had counts as waited."""
    with counted():
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def waited() -> float:
    """Seconds that this thread has waited so far."""
    return _WAITED.seconds
