"""How far two patterns are apart: total variation, which is bounded, and KL, which is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.pattern_metrics.metric import PatternMetric

if TYPE_CHECKING:
    from torch import Tensor

KL_FLOOR = 1e-6
"""Weights under it count as it: the scale of a KL is otherwise that of float32's underflow."""
SMALLEST = 2.0**-126
"""The smallest normal float32."""


def total_variation(suspect: Tensor, original: Tensor) -> Tensor:
    """Half the sum of differences, mean over rows: 0 to 1."""
    return (suspect - original).abs().sum(-1).mean(-1) / 2


def kl_of_rows(suspect: Tensor, original: Tensor, floor: float) -> Tensor:
    """[..., row, key] -> [..., row] KL(suspect ‖ original) in nats, no weight under the floor.

    KL runs away where the original gives a key almost nothing: its size is then that of the floor.
    """
    ratio = suspect.clamp_min(floor).log() - original.clamp_min(floor).log()
    return (suspect * ratio).sum(-1).clamp_min(0)


TOTAL_VARIATION = PatternMetric(
    "pattern_tv", "total variation of the attention, mean over rows", total_variation
)
KL_A_ROW = PatternMetric(
    "pattern_kl_row",
    "KL(suspect ‖ original) of the attention, nats per row (floor 1e-6)",
    lambda suspect, original: kl_of_rows(suspect, original, KL_FLOOR).mean(-1),
)
KL_SUMMED = PatternMetric(
    "pattern_kl",
    "KL(suspect ‖ original) of the attention, nats, summed over rows",
    lambda suspect, original: kl_of_rows(suspect, original, SMALLEST).sum(-1),
)
"""With the smallest float32 as the floor, so that a row may cost up to 87 nats."""
