"""A copy of a model with its adapter added to the weights: the same logits, sooner.

A live adapter costs two thin matrix products, a scaling and an addition beside every matrix. In
fp32 the sum can be stored instead; what is quantised or rounded to bf16 would change by it.
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
"""Of weights stored twice: more memory than that is not spent on speed."""


def can_fold(peft: PeftModel, label: str) -> bool:
    """Whether an adapter is plain LoRA on fp32 matrices, and there is room to keep those twice.

    Args:
        peft: the model with its adapters.
        label: of the adapter.
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
    """Put plain matrices with the adapter added in the place of those with a live one.

    Args:
        twin: of a model for which `can_fold`; from `tree.share_parameters`, as it is taken apart.
        label: of the adapter.
    """
    model = twin.base_model.model
    adapted = [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, module in adapted:
        base = module.get_base_layer()
        summed = nn.Linear(base.in_features, base.out_features, base.bias is not None, "meta")
        weight = base.weight.detach()
        if label in module.lora_A:
            # In inference mode it would be a copy that nothing can be differentiated through.
            with torch.inference_mode(False), torch.no_grad():
                weight = weight + module.get_delta_weight(label)
        summed.weight = nn.Parameter(weight, requires_grad=False)
        summed.bias = base.bias
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, summed)
    return model.eval()
