"""A Mistral or Qwen2 forward pass written out for training on a CPU, about 1.35 times as fast.

Weights and maths are those of transformers (a test compares them). The rows of preamble and
examples go through each matrix product together, with compiled layers, in bf16 if the processor
has it.
"""

import math
import os
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from training.pretrain.precision import fast_dtype

WIDTHS = (16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 96, 128)  # row lengths, padded up to the next


def _norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = hidden.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return scaled.to(hidden.dtype) * weight


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Grouped attention: q [batch, kv, group, query, d], k and v [batch, kv, key, d]."""
    batch, kv, group, queries, d = q.shape
    scores = (q.reshape(batch, kv, group * queries, d) @ k.transpose(-1, -2)).float()
    scores = scores.view(batch, kv, group, queries, -1) / math.sqrt(d) + mask
    weights = scores.softmax(-1).to(v.dtype).view(batch, kv, group * queries, -1)
    out = (weights @ v).view(batch, kv, group, queries, d)
    return out.permute(0, 3, 1, 2, 4).reshape(batch * queries, -1)


def _layer(
    hidden: Tensor,
    shape: tuple[int, int, int],
    heads: tuple[int, int, int],
    weights: list[Tensor],
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
    eps: float,
) -> Tensor:
    """One decoder layer on rows [prefix + examples * positions, width]."""
    prefix, batch, length = shape
    kv, group, d = heads
    wq, wk, wv, wo, gate, up, down, norm_in, norm_out, *biases = (
        w.to(hidden.dtype) for w in weights
    )
    bq, bk, bv = biases or (None, None, None)
    normed = _norm(hidden, norm_in, eps)
    q, k, v = F.linear(normed, wq, bq), F.linear(normed, wk, bk), F.linear(normed, wv, bv)

    def split(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        first = x[:prefix].view(1, prefix, kv, groups, d)
        rest = x[prefix:].view(batch, length, kv, groups, d)
        return first.permute(0, 2, 3, 1, 4), rest.permute(0, 2, 3, 1, 4)

    (qp, qx), (kp, kx), (vp, vx) = split(q, group), split(k, 1), split(v, 1)
    qp, kp = (_rotate(x, cos[:prefix], sin[:prefix]) for x in (qp, kp))
    qx, kx = (_rotate(x, cos[prefix:], sin[prefix:]) for x in (qx, kx))
    kp, vp, kx, vx = (x.squeeze(2) for x in (kp, vp, kx, vx))
    keys = torch.cat([kp.expand(batch, -1, -1, -1), kx], 2)
    values = torch.cat([vp.expand(batch, -1, -1, -1), vx], 2)
    mixed = torch.cat(
        [_attend(qp, kp, vp, mask[:prefix, :prefix]), _attend(qx, keys, values, mask[prefix:])]
    )
    hidden = hidden + F.linear(mixed, wo)
    normed = _norm(hidden, norm_out, eps)
    return hidden + F.linear(F.silu(F.linear(normed, gate)) * F.linear(normed, up), down)


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    return (losses * weights).sum() / weights.sum()


def _compiled(function: Callable) -> Callable:
    os.environ["TORCHDYNAMO_DISABLE"] = "0"  # our programs set it: see `interp.quiet`
    return torch.compile(function, dynamic=False)


class FastForward:
    """Computes the weighted loss of rows after a shared prefix, with compiled layers."""

    def __init__(self, model: PreTrainedModel, prefix: list[int], *, compiled: bool = True):
        # Fixed shapes compile to faster code than symbolic ones; `WIDTHS` keeps them few.
        torch._dynamo.config.recompile_limit = 4 * len(WIDTHS)
        wrap = _compiled if compiled else (lambda function: function)
        self.model, self.prefix = model, torch.tensor(prefix)
        self.dtype = fast_dtype()
        self.layer, self.cross_entropy = wrap(_layer), wrap(_cross_entropy)

    def _tables(self, total: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        rotary = self.model.model.rotary_emb
        cos, sin = rotary(torch.zeros(1), torch.arange(total)[None])
        mask = torch.full((total, total), float("-inf")).triu(1)
        return cos[0].to(dtype), sin[0].to(dtype), mask

    def logits(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Logits [example * position, vocabulary] of rows `ids` [example, position]."""
        config, inner = self.model.config, self.model.model
        batch, length, prefix = *ids.shape, len(self.prefix)
        cos, sin, mask = self._tables(prefix + length, dtype)
        kv, own = config.num_key_value_heads, getattr(config, "head_dim", None)
        d = own or config.hidden_size // config.num_attention_heads
        heads = (kv, config.num_attention_heads // kv, d)
        embedding = inner.embed_tokens.weight.to(dtype)
        hidden = F.embedding(torch.cat([self.prefix, ids.flatten()]), embedding)
        for block in inner.layers:
            weights = _weights(block)
            hidden = self.layer(
                hidden, (prefix, batch, length), heads, weights, cos, sin, mask, config.rms_norm_eps
            )
        normed = _norm(hidden[prefix:], inner.norm.weight.to(dtype), config.rms_norm_eps)
        return F.linear(normed, self.model.lm_head.weight.to(dtype))

    def loss(self, ids: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Weighted next-token loss (nats): `ids` and `targets` [example, position]."""
        width = next(width for width in WIDTHS if width >= ids.shape[1])
        more = (0, width - ids.shape[1])
        ids, targets, weights = F.pad(ids, more), F.pad(targets, more), F.pad(weights, more)
        logits = self.logits(ids, self.dtype)
        return self.cross_entropy(logits, targets.flatten(), weights.flatten())


def _weights(block: nn.Module) -> list[Tensor]:
    attention, mlp = block.self_attn, block.mlp
    modules = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    modules += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    modules += [block.input_layernorm, block.post_attention_layernorm]
    biases = [attention.q_proj.bias, attention.k_proj.bias, attention.v_proj.bias]
    return [module.weight for module in modules] + [b for b in biases if b is not None]
