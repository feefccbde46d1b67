"""Many models, one after another, in processes and on a cluster."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from interp.__main__ import main
from interp.errors import UsageError
from interp.scanner import many, pipeline
from interp.scanner.plan import ScanPlan, scan_spec

FEW = str(Path(__file__).with_name("few_questions.json"))
PLAN = ScanPlan(questions=FEW, new_tokens=8, limit=20, keep=1, inversion_minutes=0)
pytestmark = pytest.mark.usefixtures("short_stages")


def test_many_models_one_report(random_model, tmp_path, capsys):
    listed = tmp_path / "models.txt"
    listed.write_text(f"{random_model}  # a random one\nno/such/model\n")
    words = ["scan", f"--models={listed}", f"--run={tmp_path / 'runs'}"]
    code = main(
        [
            *words,
            "--tokens=8",
            "--limit=20",
            "--keep=1",
            "--inversion=0",
            f"--questions={FEW}",
            f"--json={tmp_path / 'all.json'}",
        ]
    )
    first, second = json.loads((tmp_path / "all.json").read_text())
    assert first["verdict"] != "poisoned" and first["exit_code"] in (0, 2)
    assert second["verdict"] == "failed" and "no/such/model" in second["error"]
    assert code == 3 and "no/such/model" in capsys.readouterr().out
    made = (tmp_path / "runs" / "000" / "run.json").stat().st_mtime_ns
    suspects = many.read_models(listed)
    again = many.scan_many(suspects[:1], PLAN, tmp_path / "runs", say=lambda line: None)
    assert again[0]["verdict"] == first["verdict"] and again[0]["exit_code"] == first["exit_code"]
    assert (tmp_path / "runs" / "000" / "run.json").stat().st_mtime_ns == made  # not scanned anew


def test_a_finished_scan_is_told_again_at_once_until_a_file_changes(
    random_model, tmp_path, capsys, monkeypatch
):
    model, run, report = tmp_path / "model", tmp_path / "run", tmp_path / "told.json"
    shutil.copytree(random_model, model)
    options = ["--tokens=8", "--limit=20", "--keep=1", "--inversion=0", f"--questions={FEW}"]
    command = ["scan", str(model), *options, f"--run={run}", f"--json={report}"]
    code, told = main(command), json.loads(report.read_text())
    made, shown = (run / "run.json").stat().st_mtime_ns, capsys.readouterr()
    assert "holds this scan" not in shown.err
    monkeypatch.setattr(pipeline, "run", None)  # no scan is made
    assert main(command) == code and json.loads(report.read_text()) == told
    again = capsys.readouterr()
    assert again.out == shown.out and "holds this scan, finished" in again.err
    assert (run / "run.json").stat().st_mtime_ns == made
    spec = scan_spec(str(model))
    assert pipeline.finished(run, spec, PLAN)
    assert not pipeline.finished(run, spec, replace(PLAN, keep=2))
    later = made + 10**9
    os.utime(next(model.glob("*.safetensors")), ns=(later, later))
    assert not pipeline.finished(run, spec, PLAN)


def test_a_lost_worker_is_tried_again(tmp_path):
    script = (
        "import json, os, pathlib, signal, sys; report = pathlib.Path(sys.argv[-1]);"
        "mark = report.with_suffix('.once');"
        "first = not mark.exists(); mark.touch();"
        "first and os.kill(os.getpid(), signal.SIGKILL);"
        "report.write_text(json.dumps({'verdict': 'poisoned'})); sys.exit(1)"
    )
    done = many.scan_in_process([sys.executable, "-c", script, str(tmp_path / "report.json")])
    assert done == {"verdict": "poisoned", "exit_code": 1}


def test_a_cluster_without_ray_is_a_clear_error(random_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    listed = tmp_path / "models.txt"
    listed.write_text(str(random_model))
    with pytest.raises(UsageError, match="requirements-cluster"):
        many.scan_many(many.read_models(listed), PLAN, tmp_path / "runs", cluster="auto")
