"""What a pattern metric is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PatternMetric:
    """One number a head, computed from the rows of attention that predict the answer."""

    name: str
    """Of its column in the `heads` table."""
    label: str
    compute: Callable[[Tensor, Tensor], Tensor]
    """(suspect, original), each [layer, head, row, key] float64, the last rows of a causal pattern,
    which sum to 1 over the keys -> [layer, head]."""
    difference: bool = False
    """Has a sign: drawn in diverging colours centred on zero."""
    falling: bool = False
    """Small values mark the heads that matter, so the smallest has rank 1."""
