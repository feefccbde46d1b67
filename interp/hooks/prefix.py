"""The shared beginning of many prompts, run once; all prompts reuse its keys and values."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from interp.hooks.positions import window_of

Cached = list[tuple[Tensor, Tensor]]
"""Keys and values of every layer, [row, kv_head, pos, d_head]; no layers: nothing cached."""


def cached(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    before: Cached | None,
    device: torch.device,
) -> Cached:
    """Keys and values of rows of equal length, all preceded by the one row of `before`.

    Args:
        model: a Hugging Face causal model.
        rows: token ids; empty rows add nothing.
        before: cache of the tokens before the rows, or None.
        device: device of the model.
    """
    if not rows[0]:
        return before or []
    cache = as_cache(model, picked(before or [], torch.zeros(len(rows), dtype=torch.long)))
    ids = torch.tensor([list(row) for row in rows], device=device)
    with last_position_only(model):
        model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return [(layer.keys, layer.values) for layer in cache.layers]


def slides(config, n_tokens: int) -> bool:
    """Whether this number of tokens exceeds a model's sliding window.

    A sliding cache no longer knows the positions of its keys, so it cannot be shared.

    Args:
        config: of the model that runs; the other model of the pair may have another window.
        n_tokens: tokens of prompt and answer.
    """
    window = window_of(config)
    return window is not None and n_tokens > window


def picked(cache: Cached, rows: Tensor) -> Cached:
    """Some rows of a cache. A cache with one row is not copied.

    Args:
        cache: a cache with one row, or with all rows that `rows` refers to.
        rows: [batch] int64, the cache row that precedes each prompt of a batch.
    """
    if cache and len(cache[0][0]) == 1:
        return [tuple(t.expand(len(rows), *t.shape[1:]) for t in layer) for layer in cache]
    return [tuple(t.index_select(0, rows.to(t.device)) for t in layer) for layer in cache]


def as_cache(model: PreTrainedModel, cache: Cached) -> DynamicCache:
    """A cache in the model's format, which a forward pass may extend."""
    made = DynamicCache(config=model.config)
    for layer, (keys, values) in enumerate(cache):
        made.update(keys, values, layer)
    return made


@contextmanager
def last_position_only(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the last layer's MLP is computed at the last position only.

    Its result is added to every position and is wrong at all but the last. Only the last is read:
    of the others only keys and values are kept, which are computed before the MLP.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if layers else None
    if mlp is None:
        yield
        return
    handle = mlp.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -1:], *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()
