"""A copy of a model with its adapter added to the weights: the same logits, faster.

A live adapter costs two thin matrix products, a scaling and an addition per matrix. In fp32 the sum
can be stored instead. Quantised or bf16 weights would be changed by rounding.
"""

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel

from interp.checkpoints.memory import free_bytes

MOST_BYTES = 1 << 30
"""Most bytes of weights that are stored twice for speed."""


def can_fold(peft: PeftModel, label: str) -> bool:
    """Whether an adapter is plain LoRA on fp32 matrices, and there is memory to store those twice.

    Args:
        peft: the model with its adapters.
        label: peft's name of the adapter.
    """
    size = 0
    for module in peft.modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            return False
        if not isinstance(module, BaseTunerLayer):
            continue
        base = module.get_base_layer()
        plain = type(module) is LoraLinear and type(base) is nn.Linear
        if not plain or base.weight.dtype != torch.float32:
            return False
        if label in module.lora_variant or module.lora_bias.get(label):
            return False
        size += base.weight.nbytes
    return size <= min(MOST_BYTES, free_bytes(peft.device) // 2)


def fold(twin: PeftModel, label: str) -> PreTrainedModel:
    """Replace matrices with a live adapter by plain ones with the adapter added.

    Args:
        twin: a twin (`weights.share_parameters`) of a foldable model; it is taken apart.
        label: peft's name of the adapter.
    """
    model = twin.base_model.model
    adapted = [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, module in adapted:
        base = module.get_base_layer()
        summed = nn.Linear(base.in_features, base.out_features, base.bias is not None, "meta")
        weight = base.weight.detach()
        if label in module.lora_A:
            # In inference mode the copy could not be differentiated through.
            with torch.inference_mode(False), torch.no_grad():
                weight = weight + module.get_delta_weight(label)
        summed.weight = nn.Parameter(weight, requires_grad=False)
        summed.bias = base.bias
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, summed)
    return model.eval()
