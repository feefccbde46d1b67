"""Intervals: Wilson for rates, the bootstrap for everything else; rank agreement over heads."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % Wilson interval."""

    fired: int
    n: int

    @property
    def share(self) -> float:
        """Fired over n, 0 to 1."""
        return self.fired / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson score interval, see `wilson`."""
        return wilson(self.share, self.n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.fired}/{self.n} ({100 * low:.0f} to {100 * high:.0f} %)"


RESAMPLES = 2000
"""Of every bootstrap."""
MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
BAND = (2.5, 97.5)
"""Percentiles of resamples that a 95 % interval lies between."""


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson score interval (Wilson 1927) of a share of n trials, z = 1.96."""
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def resample(n: int, seed: int | np.random.Generator, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each of n prompts occurs in each bootstrap resample of size n.

    Returns:
        [resample, prompt] counts; `counts @ values / n` are the means of the resamples.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples)


def interval(drawn: np.ndarray, *, skip_nan: bool = False) -> np.ndarray:
    """95 % percentile interval of resampled values.

    Args:
        drawn: [resample, ...].
        skip_nan: leave out resamples without a value; otherwise they make the interval NaN.

    Returns:
        [2, ...] low and high.
    """
    return (np.nanpercentile if skip_nan else np.percentile)(drawn, BAND, axis=0)


@dataclass(frozen=True)
class Agreement:
    """Spearman's rho of two metrics over heads, with its 95 % bootstrap interval over heads."""

    rho: float
    low: float
    high: float
    n: int
    p: float = np.nan
    """Two-sided, from shuffles of groups of heads; not corrected for other tests (see `holm`)."""
    groups: int | None = None
    """Number of key-value groups that were resampled; None if single heads were."""

    def __str__(self) -> str:
        if not np.isfinite(self.rho):
            return f"Spearman's ρ cannot be estimated from {self.n} heads"
        of = f"{self.n} heads" + (f" in {self.groups} KV groups" if self.groups else "")
        return f"Spearman's ρ = {self.rho:.2f} ({self.low:.2f} to {self.high:.2f}; {of})"


def agreement(
    heads: pd.DataFrame, x: str, y: str, seed: int = 0, *, per_group: int = 1
) -> Agreement:
    """Does one metric predict another? Heads that lack a value for either are left out.

    Heads that share keys and values are not independent, so they are resampled and shuffled
    together.

    Args:
        heads: one row per head, as `head_table` returns it.
        x: column of the first metric.
        y: column of the second metric.
        seed: of the bootstrap (2,000 resamples) and of the permutation test (2,000 shuffles).
        per_group: query heads per key-value head; 1 if each query head has its own.
    """
    there = heads.dropna(subset=[x, y])
    values, n = there[[x, y]].to_numpy(np.float64), len(there)
    if n < 3 or (values.std(0) == 0).any():
        return Agreement(np.nan, np.nan, np.nan, n)
    names = there["layer"].to_numpy() * 10_000 + there["head"].to_numpy() // per_group
    groups = [np.flatnonzero(names == name) for name in np.unique(names)]
    rng = np.random.default_rng(seed)
    picked = rng.integers(len(groups), size=(RESAMPLES, len(groups)))
    if len({len(group) for group in groups}) == 1:
        drawn = values[np.stack(groups)[picked].reshape(RESAMPLES, n)]
        rhos = _spearman(drawn[..., 0], drawn[..., 1])
    else:  # resamples of different lengths
        chosen = (np.concatenate([groups[i] for i in row]) for row in picked)
        rhos = [_spearman(*values[rows].T) for rows in chosen]
    low, high = interval(np.asarray(rhos), skip_nan=True)
    rho = float(_spearman(*values.T))
    return Agreement(
        rho, float(low), float(high), n, _shuffled_p(values, groups, rho, rng),
        len(groups) if per_group > 1 else None,
    )  # fmt: skip


def per_group(facts: dict | None) -> int:
    """Query heads per key-value head; 1 if a run (an older one) does not record it."""
    facts = facts or {}
    heads, shared = facts.get("n_heads"), facts.get("n_kv_heads")
    known = isinstance(heads, int) and isinstance(shared, int) and shared > 0
    return max(1, heads // shared) if known else 1


def agreements(
    heads: pd.DataFrame, pairs: Sequence[tuple[str, str]], *, per_group: int = 1
) -> pd.DataFrame:
    """Several agreements, with p-values corrected for all of them (Holm).

    Returns:
        One row per pair of metrics: `x, y, rho, low, high, n, p, p_holm`.
    """
    found = [agreement(heads, x, y, per_group=per_group) for x, y in pairs]
    rows = [(*pair, a.rho, a.low, a.high, a.n, a.p) for pair, a in zip(pairs, found, strict=True)]
    table = pd.DataFrame(rows, columns=["x", "y", "rho", "low", "high", "n", "p"])
    return table.assign(p_holm=holm(table["p"]))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm-corrected p-values of several tests. NaN stays NaN and does not count as a test."""
    values = np.asarray(p, np.float64)
    there = np.flatnonzero(np.isfinite(values))
    order = there[np.argsort(values[there], kind="stable")]
    out = np.full(len(values), np.nan)
    scaled = values[order] * (len(order) - np.arange(len(order)))
    out[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(order) else scaled
    return out


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[..., head] values -> [...] rho; NaN if all values of a resample are equal."""
    from scipy.stats import rankdata  # a tenth of what a command imports; few need it

    x, y = (rankdata(values, axis=-1) for values in (x, y))
    x, y = (ranks - ranks.mean(-1, keepdims=True) for ranks in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))


def _shuffled_p(
    values: np.ndarray, groups: list[np.ndarray], rho: float, rng: np.random.Generator
) -> float:
    """Share of shuffles with |rho| at least as large; only groups of equal size are swapped."""
    by_size: dict[int, list[np.ndarray]] = {}
    for group in groups:
        by_size.setdefault(len(group), []).append(group)
    moved = np.tile(values[:, 0], (RESAMPLES, 1))
    for alike in by_size.values():
        block = np.stack(alike)
        order = rng.random((RESAMPLES, len(block))).argsort(1)
        moved[:, block.ravel()] = values[block[order], 0].reshape(RESAMPLES, -1)
    rhos = _spearman(moved, np.broadcast_to(values[:, 1], moved.shape))
    return float((1 + (np.abs(rhos) >= abs(rho) - 1e-12).sum()) / (1 + RESAMPLES))
