"""Sparsity of a head's rows: does the suspect look at fewer tokens than the original?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.pattern_metrics.metric import PatternMetric

if TYPE_CHECKING:
    from torch import Tensor


def sparsity(pattern: Tensor) -> Tensor:
    """Hoyer's sparsity of each row, mean over rows: 0 if uniform, 1 if on one key.

    (√n - Σw / √Σw²) / (√n - 1) over the n keys that the row may see under the causal mask
    (Hoyer 2004, J. Mach. Learn. Res. 5, section 3.1). A row that sees one key alone counts as 1.

    Args:
        pattern: [layer, head, row, key], the last rows of a causal pattern, each summing to 1: the
            last row sees every key, the one before it one key fewer, and so on.
    """
    n_rows, n_keys = pattern.shape[-2:]
    seen = pattern.new_tensor(range(n_keys - n_rows + 1, n_keys + 1)).sqrt()
    spread = pattern.sum(-1) / pattern.norm(dim=-1)
    rows = (seen - spread) / (seen - 1).clamp_min(1e-12)
    return rows.where(seen > 1, 1.0).mean(-1)


SPARSITY = PatternMetric(
    "pattern_sparsity",
    "sparsity of the attention, suspect − original",
    lambda suspect, original: sparsity(suspect) - sparsity(original),
    difference=True,
)
