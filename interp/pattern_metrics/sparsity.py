"""Sparsity of a head's rows: does the suspect look at fewer tokens than the original?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.pattern_metrics.metric import PatternMetric

if TYPE_CHECKING:
    from torch import Tensor


def sparsity(pattern: Tensor) -> Tensor:
    """Hoyer's sparsity of each row, mean over rows: 0 if uniform, 1 if on one key.

    (√n - Σw / √Σw²) / (√n - 1) over n keys (Hoyer 2004, J. Mach. Learn. Res. 5, eq. in section
    3.1); a row that may look at one key alone has none and counts as 1.

    Args:
        pattern: [layer, head, row, key] weights that sum to 1 over the keys before the row.
            Keys behind it are 0 and count as keys.
    """
    root = pattern.shape[-1] ** 0.5
    if root == 1:
        return pattern.new_ones(pattern.shape[:2])
    return ((root - pattern.sum(-1) / pattern.norm(dim=-1)) / (root - 1)).mean(-1)


SPARSITY = PatternMetric(
    "pattern_sparsity",
    "sparsity of the attention, suspect − original",
    lambda suspect, original: sparsity(suspect) - sparsity(original),
    difference=True,
)
