"""Whether an adapter was trained on a base whose vocabulary was resized."""

import re
from collections.abc import Mapping

from torch import nn

from interp.checkpoints.tensors import StoredTensor

_FRONT = re.compile(r"^base_model\.model\.")


def resized(tensors: Mapping[str, StoredTensor], skeleton: nn.Module) -> str | None:
    """Why an adapter with rows of another vocabulary does not fit; None if it has no such rows.

    Args:
        tensors: the tensors of the adapter file.
        skeleton: the base without an adapter, on any device.

    Returns:
        The end of a sentence that begins with the adapter's name.
    """
    ends = {id(skeleton.get_input_embeddings()), id(skeleton.get_output_embeddings())}
    names = {name for name, module in skeleton.named_modules() if id(module) in ends}
    rows = skeleton.get_input_embeddings().weight.shape[0]
    for key, tensor in tensors.items():
        found = _rows(key, tensor.shape, names)
        if found is not None and found != rows:
            return (
                f"it was trained on a base whose vocabulary was resized to {found} tokens, and "
                f"this one has {rows}; save that base (resize_token_embeddings) and name its folder"
            )
    return None


def _rows(key: str, shape: tuple[int, ...], names: set[str]) -> int | None:
    """The number of tokens that a tensor has rows for; None if it is no embedding's."""
    name = _FRONT.sub("", key)
    module = next((one for one in names if name.startswith(f"{one}.")), None)
    if module is None or len(shape) != 2:
        return None
    behind = name.removeprefix(f"{module}.")
    if behind.startswith("lora_embedding_A"):
        return shape[1]
    whole = behind.endswith("weight") and "lora_" not in behind and "token_adapter" not in behind
    return shape[0] if whole or behind.startswith("lora_B") else None
