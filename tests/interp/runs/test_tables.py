"""Tables of an upload: bounded by the objects that pandas makes of them, not by their bytes."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from interp.runs.shelf import tables
from tests.interp.runs.test_shelf import SHIPPED, parquet


def table_of(column: pa.Array, times: int = 1) -> bytes:
    made = io.BytesIO()
    names = [str(number) for number in range(times)]
    pa.parquet.write_table(pa.table([column] * times, names), made, compression="zstd")
    assert len(made.getvalue()) < 200_000
    return made.getvalue()


LISTS = pa.list_(pa.list_(pa.int8()))
MANY = {
    "rows": (lambda: table_of(pa.nulls(1_000_001, pa.list_(pa.int8()))), "1,000,001 rows"),
    "columns": (lambda: table_of(pa.nulls(1), 201), "201 columns"),
    "values": (lambda: table_of(pa.array([[[]] * 1000] * 100, LISTS)), "more than 100,000 values"),
}


@pytest.mark.parametrize("what", MANY)
def test_a_table_of_few_bytes_and_many_objects_is_refused(tmp_path, monkeypatch, what):
    made, said = MANY[what]
    monkeypatch.setattr(tables, "MOST_VALUES", 100_000)
    (tmp_path / "a.parquet").write_bytes(made())
    assert said in tables.problem_of(tmp_path)


def test_the_values_of_all_tables_are_bounded_together(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.parquet").write_bytes(parquet(pd.DataFrame({"x": range(60)})))
    assert tables.problem_of(tmp_path) == ""
    monkeypatch.setattr(tables, "MOST_VALUES", 100)
    assert tables.problem_of(tmp_path).startswith("b.parquet and the others hold more than 100 ")


def test_the_check_of_tables_says_nothing_of_sound_ones(tmp_path):
    assert tables.problem_of(SHIPPED / "heads-deployment") == ""
    (tmp_path / "a.parquet").write_bytes(parquet(pd.DataFrame({"a": [1]})))
    assert tables.problem_of(tmp_path) == ""
