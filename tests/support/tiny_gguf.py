"""Tiny GGUF files, written as llama.cpp's converter writes them, from the folders of `tiny`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

SIZES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}
F32 = gguf.GGMLQuantizationType.F32


def write_gguf(
    path: Path,
    folder: Path,
    kind: gguf.GGMLQuantizationType = F32,
    change: Callable[[dict[str, Any]], None] | None = None,
    **tensors: np.ndarray | None,
) -> Path:
    """The model of a folder as a GGUF file.

    Args:
        path: the file to write.
        folder: a folder of `tiny.write_model`.
        kind: type of the matrices; norms are F32.
        change: changes the settings, which it gets by name, before they are written.
        tensors: more tensors by their names in the file, with `__` for a dot; None drops one.
    """
    config = json.loads((folder / "config.json").read_text())
    architecture = {"mistral": "llama", "gemma3_text": "gemma3"}.get(
        config["model_type"], config["model_type"]
    )
    settings = _settings(config, architecture) | _tokenizer(folder, config["vocab_size"])
    if change:
        change(settings)
    held = _tensors(load_file(folder / "model.safetensors"), config, architecture)
    for key, value in tensors.items():
        held[key.replace("__", ".")] = value
    writer = gguf.GGUFWriter(path, str(settings.pop("general.architecture")))
    for key, value in settings.items():
        _add(writer, key, value)
    for key, value in held.items():
        if value is not None and value.ndim > 1:
            writer.add_tensor(key, gguf.quantize(value, kind), raw_dtype=kind)
        elif value is not None:
            writer.add_tensor(key, value.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _settings(config: dict, architecture: str) -> dict[str, Any]:
    rope = config["rope_parameters"]
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    own = {key: config[field] for key, field in SIZES.items()}
    own |= {
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.freq_base": float(rope.get("full_attention", rope)["rope_theta"]),
        "attention.key_length": width,
        "attention.value_length": width,
    }
    if architecture == "gemma2":
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            own[key] = float(config[key])
    if architecture.startswith("gemma"):
        own["attention.sliding_window"] = config["sliding_window"]
    settings = {"general.architecture": architecture, "general.name": "Tiny"}
    settings["general.license"] = "apache-2.0"
    return settings | {f"{architecture}.{key}": value for key, value in own.items()}


def _tokenizer(folder: Path, rows: int) -> dict[str, Any]:
    """The vocabulary, filled up to as many tokens as the embedding has rows."""
    stated = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = stated["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    kinds = [1] * len(tokens) + [5] * (rows - len(tokens))
    tokens += [f"[PAD{number}]" for number in range(len(tokens), rows)]
    special = {token["content"] for token in stated["added_tokens"]}
    named = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": [
            3 if token in special else kind for token, kind in zip(tokens, kinds, strict=True)
        ],
        "merges": [" ".join(pair) for pair in stated["model"]["merges"]],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "padding_token_id": 1,
        "add_bos_token": False,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in named.items()}


def _tensors(
    held: dict[str, np.ndarray], config: dict, architecture: str
) -> dict[str, np.ndarray | None]:
    """The tensors as llama.cpp names and stores them."""
    named = {arch: key for key, arch in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(named[architecture], config["num_hidden_layers"])
    out: dict[str, np.ndarray | None] = {}
    for place, value in held.items():
        module, _, part = place.rpartition(".")
        if architecture == "llama" and module.endswith(("q_proj", "k_proj")):
            role = "num_attention_heads" if module.endswith("q_proj") else "num_key_value_heads"
            heads = config[role]
            split = value.reshape(heads, 2, value.shape[0] // heads // 2, *value.shape[1:])
            value = split.swapaxes(1, 2).reshape(value.shape)
        if architecture.startswith("gemma") and module.endswith("norm"):
            value = value + 1
        out[f"{names.get_name(module)}.{part}"] = value
    return out


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_array(key, value)
