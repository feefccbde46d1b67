"""Progress of long jobs, their results so far, how long they take, and what a thread has waited."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
Progress = Callable[[int, int, str], None]
"""Called as (done, total, note)."""


@dataclass(frozen=True)
class SoFar(Generic[T]):
    """A result over the first prompts of a measurement, or over all of them."""

    value: T
    done: int
    """Number of prompts that `value` covers."""
    total: int
    """Number of prompts of the whole measurement."""

    @property
    def final(self) -> bool:
        """Whether nothing is left to measure."""
        return self.done >= self.total


class Kept(Protocol):
    """Where a measurement puts what it has read, to go on from there another time; a dict is one.

    It may forget. Its keys name models, prompts and part, but not the state of the models' files.
    """

    def get(self, key: Hashable, /) -> Any:
        """The value of the key, or None."""

    def __setitem__(self, key: Hashable, value: Any, /) -> None:
        """Keep a value."""


def stops(total: int) -> list[int]:
    """Numbers of prompts after which a result is shown: 4, 8, 16, 24, ... and all of them.

    They are fixed, so that a measurement that was stopped and one that was not run the same
    batches, and agree to the bit.

    Args:
        total: number of prompts, at least 1.
    """
    return [*(stop for stop in (4, *range(8, total, 8)) if stop < total), total]


def last(pictures: Iterable[SoFar[T]]) -> T:
    """The result of a growing measurement that is run to its end."""
    return deque(pictures, maxlen=1)[0].value


def kept_or(kept: Kept | None, key: Hashable, measure: Callable[[], T]) -> T:
    """What is kept under the key; else measured now, and kept.

    Args:
        kept: where to look; None: nothing is kept.
        key: key of the result.
        measure: makes it.
    """
    if kept is None:
        return measure()
    found = kept.get(key)
    if found is None:
        found = kept[key] = measure()
    return found


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


TAKEN = {"fuzzy": 67, "guard": 132, "causal": 119}
"""Kind -> seconds that its recorded run on the toy `deployment` took on two processor cores."""
PARAMETERS, HEADS = 11e6, 48
"""Of that toy."""
BY_HEAD = ("causal",)
"""Kinds that run the model once for every head."""


def expected_seconds(kind: str, n_parameters: int, n_heads: int) -> float:
    """Seconds on two processor cores; a factor of two in either direction is no surprise.

    The work grows with the parameters, and for some kinds with the heads too.

    Args:
        kind: a key of `TAKEN`.
        n_parameters: of one model of the pair.
        n_heads: heads in all its layers.
    """
    found = TAKEN[kind] * n_parameters / PARAMETERS
    return found * n_heads / HEADS if kind in BY_HEAD else found


def expected(kind: str, n_parameters: int, n_heads: int) -> str:
    """`expected_seconds` in words: `about 15 min on two processor cores`."""
    minutes = expected_seconds(kind, n_parameters, n_heads) / 60
    if minutes < 90:
        step = 1 if minutes < 10 else 5
        spoken = f"{max(1, step * round(minutes / step))} min"
    else:
        hours = round(minutes / 60)
        spoken = f"{hours} hour{'s' * (hours > 1)}" if hours < 48 else f"{round(hours / 24)} days"
    return f"about {spoken} on two processor cores"
