"""Every pattern metric, in the order of its columns. A new one is a file and an entry here."""

from interp.pattern_metrics.distance import KL_A_ROW, KL_SUMMED, TOTAL_VARIATION
from interp.pattern_metrics.sparsity import SPARSITY

PATTERN_METRICS = (
    TOTAL_VARIATION,
    KL_A_ROW,
    KL_SUMMED,
    SPARSITY,
)
