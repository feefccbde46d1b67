"""Adapters with the names of older architectures: the names that plain peft gives them."""

import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3Config, MixtralConfig, MixtralForCausalLM

from interp.adapters.names import converted
from tests.cases import plain
from tests.support import tiny

NOW, BEFORE = "model.language_model.layers", "language_model.model.layers"
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "vision_use_head": False,
}


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """A multimodal Gemma 3, an adapter on it, and the same adapter with the names of old."""
    folder = tmp_path_factory.mktemp("gemma")
    text = tiny.SIZES | {"head_dim": 16, "sliding_window": 8}
    config = Gemma3Config(text_config=text, vision_config=VISION, mm_tokens_per_image=4)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    model.save_pretrained(folder / "base")
    tiny.write_tokenizer(folder / "base")
    targets = r".*language_model.*\.(q_proj|down_proj)"
    peft = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if ".lora_" in name:
                parameter.normal_(0, 0.2)
    peft.save_pretrained(folder / "now")
    shutil.copytree(folder / "now", folder / "before")
    tensors = load_file(folder / "now" / "adapter_model.safetensors")
    old = {key.replace(NOW, BEFORE): tensor for key, tensor in tensors.items()}
    save_file(old, folder / "before" / "adapter_model.safetensors")
    return folder


def skeleton_of(folder):
    """The model on the meta device."""
    config = Gemma3Config.from_pretrained(folder / "base")
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def test_names_of_old_become_those_that_peft_fills(gemma):
    tensors = load_file(gemma / "before" / "adapter_model.safetensors")
    names = converted(tensors, skeleton_of(gemma))
    assert set(names) == set(tensors)
    peft = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(gemma / "base", dtype=torch.float32), gemma / "before"
    )
    held = dict(peft.named_parameters())
    for key, tensor in tensors.items():
        assert BEFORE in key and NOW in names[key]
        stem, _, weight = names[key].rpartition(".")
        assert torch.equal(held[f"{stem}.default.{weight}"], tensor), key


def test_plain_peft_loads_both_alike(gemma):
    now, before = (plain.logits(plain.model(gemma / "base", gemma / n)) for n in ("now", "before"))
    base = plain.logits(plain.model(gemma / "base"))
    assert torch.equal(now, before) and (now - base).abs().max() > 0.1


@pytest.mark.parametrize("names", ["now", "before"])
def test_an_adapter_with_either_names_is_what_peft_makes_of_it(gemma, names):
    pair = plain.pair(gemma / "base", gemma / names)
    for which, lora in (("suspect", gemma / names), ("original", None)):
        with pair.use(which) as model:
            ours = plain.logits(model)
        assert (ours - plain.logits(plain.model(gemma / "base", lora))).abs().max() < 1e-5


def test_names_of_today_stay(gemma):
    tensors = load_file(gemma / "now" / "adapter_model.safetensors")
    assert converted(tensors, skeleton_of(gemma)) == {key: key for key in tensors}


def test_names_of_a_plain_model_stay(tiny_folder):
    tensors = load_file(tiny_folder(kind="adapter") / "adapter_model.safetensors")
    model = plain.model(tiny_folder())
    assert converted(tensors, model) == {key: key for key in tensors}


def test_a_base_with_the_names_of_old_is_opened_as_transformers_opens_it(gemma):
    tensors = load_file(gemma / "base" / "model.safetensors")
    assert any(key.startswith("language_model.model.") for key in tensors)  # it writes them still
    pair = plain.pair(gemma / "base", suspect=gemma / "base")
    with pair.use("suspect") as model:
        ours = plain.logits(model)
    reference = plain.logits(plain.model(gemma / "base"))
    assert (ours - reference).abs().max() < 1e-5


def test_matrices_that_would_be_joined_are_refused():
    config = MixtralConfig(**tiny.SIZES, num_local_experts=2)
    with torch.device("meta"):
        skeleton = MixtralForCausalLM(config)
    experts = "base_model.model.model.layers.0.block_sparse_moe.experts"
    keys = [f"{experts}.{e}.{w}.lora_A.weight" for e in (0, 1) for w in ("w1", "w2", "w3")]
    with pytest.raises(ValueError, match="several have become one"):
        converted(keys, skeleton)
