"""The heads most like one head: by where they look, and by what they lost in recorded runs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from interp.attention.study import Study
from interp.errors import UsageError
from interp.metrics import MODELS, Head

COUNT = 4
"""Heads listed for each likeness."""
BY_DELTA = "delta_rel"
BY_PATTERN = {"suspect": "pattern, suspect", "original": "pattern, original"}


def pattern_cosine(values: np.ndarray) -> np.ndarray:
    """Mean over query rows of the cosine of two heads' rows of attention, for all pairs of heads.

    The cosine is a·b / (|a||b|) of the rows a, b over the keys. The first row sees one key, so all
    heads agree in it, and it is left out. A row of zeros counts as 0.

    Args:
        values: [layer, head, query, key] attention, at least two queries.

    Returns:
        [head of all layers, head of all layers] float64, 0 to 1.

    Raises:
        UsageError: there is only one row.
    """
    n_layers, n_heads, n_queries, _ = values.shape
    if n_queries < 2:
        raise UsageError("one position has no pattern to compare: take a longer prompt")
    rows = values[:, :, 1:].astype(np.float64).reshape(n_layers * n_heads, n_queries - 1, -1)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    flat = unit.reshape(len(unit), -1)
    return flat @ flat.T / (n_queries - 1)


def delta_apart(rankings: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """Mean over runs of |Δ_rel of one head - Δ_rel of another|, for all pairs of heads.

    Args:
        rankings: run -> `heads.delta_rel`, all of models of one shape, at least one.

    Returns:
        [head of all layers, head of all layers] float64; a run counts for a pair if both heads are
        above the floor in it. NaN for a pair without such a run.
    """
    values = [
        table.sort_values(["layer", "head"])["delta_rel"].to_numpy(np.float64)
        for table in rankings.values()
    ]
    apart = np.stack([np.abs(one[:, None] - one[None, :]) for one in values])
    known = np.isfinite(apart)
    counts = known.sum(0)
    total = np.where(known, apart, 0).sum(0)
    return np.divide(total, counts, out=np.full(total.shape, np.nan), where=counts > 0)


def neighbours(
    study: Study, head: Head, rankings: Mapping[str, pd.DataFrame], count: int = COUNT
) -> pd.DataFrame:
    """The heads most like one, with the median over all pairs of heads as the control.

    Args:
        study: whose averaged maps on triggered prompts are compared.
        head: (layer, head).
        rankings: run -> `heads.delta_rel` of recorded runs on models of this shape; may be empty.
        count: heads listed for each likeness.

    Returns:
        `by, rank, layer, head, value, median`. `by` is a value of `BY_PATTERN` (value: mean cosine,
        1 is the same pattern) or `BY_DELTA` (value: mean distance of Δ_rel, 0 is the same loss).

    Raises:
        UsageError: the model has no such head, or one head only.
    """
    n_layers, n_heads = study.facts["n_layers"], study.facts["n_heads"]
    layer, number = head
    if not (0 <= layer < n_layers and 0 <= number < n_heads):
        raise UsageError(
            f"L{layer}H{number} is not in the model: it has {n_layers} layers of {n_heads} heads"
        )
    if n_layers * n_heads < 2:
        raise UsageError("the model has one head: there is none to compare it with")
    likeness = {
        BY_PATTERN[which]: (pattern_cosine(study.maps[which, "triggered"].values), -1)
        for which in reversed(MODELS)
    }
    if rankings:
        likeness[BY_DELTA] = delta_apart(rankings), 1
    rows = []
    for by, (square, sign) in likeness.items():
        own = layer * n_heads + number
        median = _median(square)
        order = np.argsort(sign * square[own], kind="stable")  # NaN last
        nearest = [other for other in order if other != own and np.isfinite(square[own, other])]
        for rank, other in enumerate(nearest[:count], start=1):
            rows.append((by, rank, *divmod(int(other), n_heads), square[own, other], median))
    return pd.DataFrame(rows, columns=["by", "rank", "layer", "head", "value", "median"])


def _median(square: np.ndarray) -> float:
    """Median over all pairs of different heads that have a value."""
    pairs = square[np.triu_indices(len(square), 1)]
    known = pairs[np.isfinite(pairs)]
    return float(np.median(known)) if len(known) else float("nan")
