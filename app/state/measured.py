"""Cache of the latest results by description, bounded in bytes; each is computed once."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd

from app.shell import spent


def sizes_of(value) -> dict[int, int]:
    """Memory that a result holds: identity -> bytes of its arrays, tables and other objects.

    Follows containers and dataclasses. A view counts as the whole array that it keeps alive.
    """
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        return {id(value): value.nbytes}
    if isinstance(value, pd.DataFrame):
        return {id(value): int(value.memory_usage(deep=True).sum())}
    if is_dataclass(value):
        return _together(getattr(value, field.name) for field in fields(value))
    if isinstance(value, dict):
        return _together(part for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return {id(value): sys.getsizeof(value)} | _together(value)
    return {id(value): sys.getsizeof(value)}


def _together(values: Iterable) -> dict[int, int]:
    sizes = {}
    for value in values:
        sizes |= sizes_of(value)
    return sizes


@dataclass
class _Gate:
    """Lets one thread compute a value; the others wait for it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class Memo:
    """The most recently used results that fit; concurrent sessions compute a result once."""

    def __init__(
        self, max_bytes: int, *, around: Callable[[], AbstractContextManager] = spent.computing
    ):
        """Create a cache of at most `max_bytes`.

        Args:
            max_bytes: bytes of all cached values together.
            around: context entered while a value is computed, to record the time.
        """
        self._max_bytes = max_bytes
        self._around = around
        self._kept: OrderedDict[Hashable, tuple[object, dict[int, int]]] = OrderedDict()
        self._gates: dict[Hashable, _Gate] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The cached value of `key`, computed now if there is none.

        The newest value is cached even if it alone exceeds the bound; otherwise each rerun would
        compute it again.
        """
        with self._gate(key):
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key][0]
            with self._around():
                value = compute()
            self.put(key, value)
            return value

    def peek(self, key: Hashable) -> Any:
        """The cached value of `key`, or None."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: object) -> None:
        """Cache a value that was computed elsewhere; the newest is cached whatever its size."""
        sizes = sizes_of(value)
        with self._lock:
            self._kept[key] = value, sizes
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self.held > self._max_bytes:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        """Drop all cached values."""
        with self._lock:
            self._kept.clear()

    @property
    def held(self) -> int:
        """Bytes of all cached values; shared objects count once."""
        sizes = {}
        for _, own in self._kept.values():
            sizes |= own
        return sum(sizes.values())

    @contextmanager
    def _gate(self, key: Hashable):
        """Hold the key's gate, which exists as long as any thread waits for it."""
        with self._lock:
            gate = self._gates.setdefault(key, _Gate())
            gate.users += 1
        try:
            with ExitStack() as held:
                with spent.waiting():
                    held.enter_context(gate.lock)
                yield
        finally:
            with self._lock:
                gate.users -= 1
                if not gate.users:
                    del self._gates[key]
