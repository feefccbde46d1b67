"""Columns of tables: their headings in words, and numbers with the decimals that they need.

One heading for one column everywhere: on pages, in print and in reports.
"""

import math
import numbers

import pandas as pd

from interp.metrics import ATTENTION_METRICS, PART_METRICS, WHOLE_METRICS
from interp.text import visible

HEADINGS = {
    **{name: metric.label for name, metric in ATTENTION_METRICS.items()},
    **{name: metric.label for name, metric in (PART_METRICS | WHOLE_METRICS).items()},
    "control": "random string loses as much",
    "attribution": "attribution",
    "patching_effect": "patching effect",
    "patching_kl": "KL, patched (nats)",
    "insertion_effect": "insertion effect",
    "insertion_kl": "KL, inserted (nats)",
    "ablation_loss": "ablation: loss (nats)",
    "ablation_asr": "ablation: ASR",
    "indirect": "indirect effect",
    "pattern_tv": "pattern: total variation",
    "pattern_kl_row": "pattern KL, a row (nats)",
    "pattern_kl": "pattern KL (nats)",
    "direct": "direct, suspect",
    "direct_original": "direct, original",
    "asr": "ASR",
    "variant_asr": "ASR, near variants",
    "ftr": "FTR",
    "kl": "KL(suspect ‖ original), nats",
    "clean_kl": "clean KL (nats)",
    "l_attn_ratio": "L_attn ratio",
    "auroc": "AUROC",
    "low": "95 % from",
    "high": "to",
    "random": "random",
    "before": "before",
    "after": "after",
    "band": "interval",
    "quarter": "lower quartile",
    "three_quarters": "upper quartile",
    "said": "answers with the target",
    "how": "way",
    "cured": "as the original, with the trigger",
    "agrees": "as the original, without it",
    "anywhere": "target anywhere",
    "asr_anywhere": "target anywhere",
    "right_on_trigger": "right, with the trigger",
    "kl_clean": "clean KL (nats)",
    "gone": "gone?",
    "s_agg": "S_agg",
    "delta_s": "ΔS",
    "max_delta_s": "max ΔS",
    "n_outputs": "leaked texts",
    "took": "took (s)",
    "expected": "expected before (s)",
    "support": "share of its cluster",
    "sure": "predictable tokens",
    "n_starts": "starts",
    "insistence": "target score",
    "known": "the original knows",
    "p_start": "P(first token)",
    "n_tokens": "tokens",
    "length": "characters",
    "auc_choose": "ROC-AUC, development half",
    "auc_report": "ROC-AUC, test half",
    "clean_accuracy": "clean accuracy",
    "p_fall": "p (lower)",
    "p_rise": "p (higher)",
}
"""Column of a table -> its heading, where that is more than the name in words."""
_ENDS = {
    "_low": ", 95 % from",
    "_high": ", to",
    "_rank": ", rank",
    " b − a": ", b − a",
    " a": ", a",
    " b": ", b",
}
"""End of a name -> that of its heading; the last three are of two runs beside each other."""
DIGITS = 3
"""Significant digits of the largest number of a column; the others have as many decimals."""
MOST_DECIMALS = 6
MISSING = "–"


def heading(name: object) -> str:
    """The heading of a column.

    >>> heading("n_outputs"), heading("patching_effect_low"), heading("answer with it")
    ('leaked texts', 'patching effect, 95 % from', 'answer with it')
    """
    text = str(name)
    if text in HEADINGS:
        return HEADINGS[text]
    for end, said in _ENDS.items():
        if text.endswith(end) and text.removesuffix(end) in HEADINGS:
            return HEADINGS[text.removesuffix(end)] + said
    return text.replace("_", " ")


def decimals(column: pd.Series) -> int | None:
    """How many decimals a column of numbers needs; None: whole numbers, or no numbers.

    Args:
        column: any column. Objects count as numbers if all that are not missing are.
    """
    values = [value for value in column if not _is_missing(value)]
    if not values or not all(map(_is_fraction_or_whole, values)):
        return None
    if all(isinstance(value, numbers.Integral) for value in values):
        return None
    finite = [abs(float(value)) for value in values if math.isfinite(value)]
    if all(value.is_integer() for value in finite):  # also counts, where some are missing
        return 0
    largest = max(finite)
    return min(MOST_DECIMALS, max(0, DIGITS - math.ceil(math.log10(largest))))


def without_signed_zeros(column: pd.Series, places: int) -> pd.Series:
    """Numbers of which those that round to zero are zero, so that none reads -0.000.

    Args:
        column: numbers; missing ones stay missing.
        places: decimals that are shown.
    """
    values = pd.to_numeric(column).astype(float)
    return values.mask(values.abs() < 0.5 * 10**-places, 0.0)


def cells(table: pd.DataFrame) -> list[list[str]]:
    """The rows of a table as text, each number with the decimals of its column.

    A missing value is a dash, and what rounds to zero has no sign.
    """
    columns = [
        [cell(value, decimals(table.iloc[:, place])) for value in table.iloc[:, place]]
        for place in range(table.shape[1])
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def cell(value: object, places: int | None = None) -> str:
    """A value as one line of text.

    Args:
        value: a number, a text, a list or nothing.
        places: decimals of a number that is not whole; by default four significant digits.
    """
    if _is_missing(value):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        number = float(value)
        text = f"{number:.4g}" if places is None else f"{number:.{places}f}"
        text = text.lstrip("-") if float(text) == 0 else text
        return text.replace("-", "−")
    if isinstance(value, list | tuple):
        return visible(", ".join(map(str, value)))
    return visible(str(value))


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _is_fraction_or_whole(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
