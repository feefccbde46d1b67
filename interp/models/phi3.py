"""Phi-3's fused projections under a TransformerBridge, with their adapters and in NF4.

transformer-lens splits the fused q-k-v and gate-up matrices when it boots. The pieces bypass a LoRA
adapter on the fused matrix, and an NF4 matrix cannot be split. Here the pieces are columns of the
fused module's own output, so everything that the module does is kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class OutputSlice(nn.Module):
    """Columns `start:stop` of another module's output."""

    def __init__(self, fused: nn.Module, start: int, stop: int):
        super().__init__()
        self.fused = (fused,)
        """In a tuple, so that the module is not registered here: it belongs to the model."""
        self.columns = slice(start, stop)

    @property
    def weight(self) -> torch.Tensor:
        """[stop - start, d_in] without the adapter, for code that reads shapes and dtypes."""
        return self.fused[0].weight[self.columns]

    @property
    def bias(self) -> torch.Tensor | None:
        """[stop - start], or None."""
        bias = getattr(self.fused[0], "bias", None)
        return None if bias is None else bias[self.columns]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., d_in] -> [..., stop - start]."""
        return self.fused[0](x)[..., self.columns]


def slices(fused: nn.Module, sizes: list[int]) -> tuple[OutputSlice, ...]:
    """Adjacent slices of the given widths."""
    stops = torch.tensor(sizes).cumsum(0).tolist()
    return tuple(
        OutputSlice(fused, stop - size, stop) for stop, size in zip(stops, sizes, strict=True)
    )


@contextmanager
def fused_unsplit() -> Iterator[None]:
    """Use `OutputSlice` for Phi-3's fused projections while a bridge boots in the block."""
    from transformer_lens.model_bridge.supported_architectures.phi3 import (
        Phi3ArchitectureAdapter as Phi3,
    )

    def split_qkv(adapter, attention):
        cfg = adapter.cfg
        n_kv = cfg.n_key_value_heads or cfg.n_heads
        return slices(attention.qkv_proj, [cfg.d_head * n for n in (cfg.n_heads, n_kv, n_kv)])

    def split_gate_up(mlp):
        width = mlp.gate_up_proj.out_features // 2
        return slices(mlp.gate_up_proj, [width, width])

    before = Phi3._split_phi3_qkv, Phi3.__dict__["_split_gate_up"]
    Phi3._split_phi3_qkv, Phi3._split_gate_up = split_qkv, staticmethod(split_gate_up)
    try:
        yield
    finally:
        Phi3._split_phi3_qkv, Phi3._split_gate_up = before
