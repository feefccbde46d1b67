"""How concentrated is a backdoor over heads and layers? Compares triggers.

Abu Baker & Babu-Saheer 2025 report that a single-token trigger changes few heads and a trigger of
several tokens changes many. This module tests that for any metric of a causal run, prompt by
prompt. Their single token is 😇; our organism's is 😈.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from interp.errors import UsageError
from interp.stats import interval, resample

TOP = 0.05
SPREADS = {
    "top_share": "share of the total effect in the top 5 % of heads",
    "gini": "Gini coefficient over heads (0 even, 1 all in one)",
    "centre": "centre of mass over layers (0 first, 1 last)",
}


def concentration(table: pd.DataFrame, metric: str, *, seed: int = 0) -> pd.DataFrame:
    """How a metric's effect is spread, with 95 % percentile bootstrap intervals over prompts.

    A head's effect is the absolute value of its mean over prompts. Noise spreads it out: a
    head without an effect still has a small mean, so compare triggers on equally many prompts.

    Args:
        table: a measure's table of a causal run: `prompt, layer, head, metric, value`.
        metric: name of a metric in the table.
        seed: of the 2,000 bootstrap resamples.

    Returns:
        One row per quantity of `SPREADS`: `quantity, mean, low, high, n_heads, n_prompts`.

    Raises:
        UsageError: the table does not have the metric.
    """
    rows = table[(table["metric"] == metric) & (table["head"] >= 0)]
    if rows.empty:
        known = ", ".join(sorted(table["metric"].unique()))
        raise UsageError(f"metric '{metric}' was not measured here; there is {known}")
    grid = rows.pivot(index="prompt", columns=["layer", "head"], values="value").sort_index(axis=1)
    values, n = grid.to_numpy(np.float64), len(grid)
    layers = grid.columns.get_level_values("layer").to_numpy(np.float64)
    draws = resample(n, seed)
    point = spread_of(values.mean(0)[None], layers)
    drawn = spread_of(draws @ values / n, layers)
    out = []
    for quantity in SPREADS:
        low, high = interval(drawn[quantity], skip_nan=True) if n > 1 else (np.nan, np.nan)
        out.append((quantity, point[quantity][0], low, high, values.shape[1], n))
    return pd.DataFrame(out, columns=["quantity", "mean", "low", "high", "n_heads", "n_prompts"])


def over_seeds(tables: Mapping[str, pd.DataFrame], metric: str) -> pd.DataFrame:
    """`concentration` of several injections of one trigger, and the mean over them.

    Args:
        tables: injection (a seed's name) -> a measure's table.
        metric: name of a metric in the tables.

    Returns:
        The rows of `concentration` for each injection, with a first column `injection`. Injection
        `all` is the mean over injections; its `low` and `high` are the smallest and largest.
    """
    each = {name: concentration(table, metric) for name, table in tables.items()}
    rows = pd.concat([found.assign(injection=name) for name, found in each.items()])
    together = rows.groupby("quantity", sort=False).agg(
        low=("mean", "min"),
        high=("mean", "max"),
        mean=("mean", "mean"),
        n_heads=("n_heads", "first"),
        n_prompts=("n_prompts", "sum"),
    )
    rows = pd.concat([rows, together.reset_index().assign(injection="all")], ignore_index=True)
    return rows[["injection", "quantity", "mean", "low", "high", "n_heads", "n_prompts"]]


def spread_of(effects: np.ndarray, layers: np.ndarray) -> dict[str, np.ndarray]:
    """The quantities of `SPREADS` for each row of effects.

    Args:
        effects: [row, head], of any sign; absolute values are used.
        layers: [head], the layer of each head.

    Returns:
        Quantity -> [row]; NaN where no head has an effect.
    """
    sizes = np.abs(effects)
    total = sizes.sum(1)
    n = sizes.shape[1]
    ordered = np.sort(sizes, axis=1)
    ranks = np.arange(1, n + 1)
    last = max(layers.max(), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "top_share": ordered[:, n - max(1, round(TOP * n)) :].sum(1) / total,
            "gini": (2 * ranks - n - 1) @ ordered.T / (n * total),
            "centre": sizes @ layers / total / last,
        }
