"""`python -m tests.house.same_tables BEFORE AFTER`: tables of two folders of runs, to the bit.

For a change that must not change a number: make the same runs with both versions and compare.
Columns and metrics that only the second has are named; anything else is a difference.
"""

import sys
from pathlib import Path

import pandas as pd


def differences(before: Path, after: Path) -> list[str]:
    """Every table of `before` that `after` lacks or has otherwise, a line each; prints all."""
    out = []
    for file in sorted(before.rglob("*.parquet")):
        name = file.relative_to(before).as_posix()
        verdict, new = _compared(file, after / name)
        print(f"{verdict:10}{name}" + (f" (new: {', '.join(new)})" if new else ""))
        out += [name] if verdict != "equal" else []
    return out


def _compared(file: Path, other: Path) -> tuple[str, list[str]]:
    if not other.is_file():
        return "missing", []
    one, two = pd.read_parquet(file), pd.read_parquet(other)
    new = [column for column in two if column not in one]
    if "metric" in one and "metric" in two:
        metrics = sorted(set(two["metric"]) - set(one["metric"]))
        two, new = two[~two["metric"].isin(metrics)].reset_index(drop=True), [*new, *metrics]
    try:
        columns = [column for column in one if column in two]
        pd.testing.assert_frame_equal(one, two[columns], check_exact=True)
    except AssertionError:
        return "DIFFERS", new
    return "equal", new


if __name__ == "__main__":
    found = differences(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{len(found)} differ")
    sys.exit(bool(found))
