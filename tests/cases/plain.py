"""The reference: plain transformers and peft, one prompt at a time, eager attention."""

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from interp.checkpoints import loading  # noqa: F401  (keeps transformers quiet)
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.spans import TokenizedPrompt
from interp.specs import pair_spec

PROMPTS = ((5, 17, 250, 33, 90, 12, 300, 8, 61, 70, 71, 72), (9, 8, 7, 200, 201, 202, 31))
"""Token ids of the tiny models' vocabulary, of two lengths."""


def model(
    base: Path, adapter: Path | None = None, dtype: torch.dtype = torch.float32
) -> PreTrainedModel | PeftModel:
    """The model, loaded as a model card says."""
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="eager")
    return (PeftModel.from_pretrained(plain, str(adapter)) if adapter else plain).eval()


def logits(model: torch.nn.Module, prompts: Sequence[Sequence[int]] = PROMPTS) -> torch.Tensor:
    """Logits [token of all prompts, vocabulary], float32."""
    with torch.inference_mode():
        rows = [model(input_ids=torch.tensor([ids])).logits[0].float() for ids in prompts]
    return torch.cat(rows)


def l_attn(model: torch.nn.Module, prompts: Sequence[TokenizedPrompt]) -> torch.Tensor:
    """[prompt, layer, head]: mean attention from instruction rows to trigger columns (DESIGN 3)."""
    rows = []
    for prompt in prompts:
        with torch.inference_mode():
            out = model(input_ids=torch.tensor([prompt.ids]), output_attentions=True)
        spans = prompt.instruction.slice, prompt.trigger.pieces[0].slice
        rows.append(
            torch.stack([layer[0][:, spans[0], spans[1]].mean((1, 2)) for layer in out.attentions])
        )
    return torch.stack(rows).float()


def pair(base: Path, adapter: Path | None = None, suspect: Path | None = None) -> ModelPair:
    """The same models opened by the product, in fp32 on the CPU."""
    spec = pair_spec(
        str(base),
        suspect and str(suspect),
        adapter and str(adapter),
        precision="fp32",
        template="plain",
    )
    return load_pair(spec, device="cpu")
