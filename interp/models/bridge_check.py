"""Does a TransformerBridge compute what its model computes? Checked on a text before use.

There are two checks. Every layer with an adapter that runs in the model must also run in the
bridge: this detects a bridge that bypasses an adapter, however little the adapter changes. And the
logits must equal those of the model with eager attention, which a bridge uses. They may differ by
as much as eager attention and ours differ in the model itself through rounding: nothing in fp32,
a few per cent in bf16 after 30 layers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.hooks.capture import use_attention
from interp.metrics import ATTENTION

TEXT = (
    "The river was high after a week of rain, and the old stone bridge had been closed since "
    'Monday. People on the other side left home an hour earlier. "It could be worse," said the '
    "baker, who still had 3 ovens and flour for 12 days.\n"
)
MOST_TOKENS = 64
TIMES = 1.5
"""Factor on the model's own rounding noise that is allowed. A correct bridge is mostly at 0."""
LEAST = 1e-4
"""Relative difference of logits that always counts as noise. In fp32, correct: 1e-6 at most."""


def check_bridge(
    model: PreTrainedModel,
    bridge: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    layers: Sequence[tuple[nn.Module, nn.Module]] = (),
) -> None:
    """Run one text through the model and the bridge, and compare.

    Args:
        model: the Hugging Face model, run through `span_sdpa`, with its adapter switched.
        bridge: booted on a copy of the model's modules, with adapters switched in the same way.
        tokenizer: the model's.
        layers: (layer, copy) for each of the model's switchable layers.

    Raises:
        ValueError: the bridge bypasses an adapter, or gives other logits.
    """
    ids = probe(tokenizer, model)
    with torch.inference_mode():
        with _running([ours for ours, _ in layers]) as ours_ran:
            ours = model(input_ids=ids, use_cache=False).logits
        with _running([theirs for _, theirs in layers]) as theirs_ran:
            theirs = bridge(ids)
        missed = [layers[i][0] for i in sorted(ours_ran - theirs_ran) if _adapts(layers[i][0])]
        if missed:
            first = next(name for name, module in model.named_modules() if module is missed[0])
            raise ValueError(f"it takes {len(missed)} matrices past their adapters, {first} first")
        eager = _eager(model, ids)
    gap, noise = apart(theirs, eager), apart(ours, eager)
    if not gap <= max(LEAST, TIMES * noise):
        raise ValueError(
            f"its logits differ from the model's by {gap:.1%} of their spread, and rounding alone "
            f"makes {noise:.1%}"
        )


def probe(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Tensor:
    """Token ids [1, pos] of plain text that have rows in the embedding; at least eight."""
    rows = model.get_input_embeddings().weight.shape[0]
    ids = [token for token in tokenizer(TEXT).input_ids if token < rows][:MOST_TOKENS]
    ids = ids if len(ids) >= 8 else list(range(min(rows, 8)))
    return torch.tensor([ids], device=model.device)


def apart(other: Tensor, reference: Tensor) -> float:
    """Root mean square difference, as a share of the reference's standard deviation.

    Args:
        other: logits [1, pos, vocabulary].
        reference: logits [1, pos, vocabulary].
    """
    other, reference = other.float(), reference.float()
    return float((other - reference).square().mean().sqrt() / reference.std())


def _eager(model: PreTrainedModel, ids: Tensor) -> Tensor:
    use_attention(model, "eager")
    try:
        return model(input_ids=ids, use_cache=False).logits
    finally:
        use_attention(model, ATTENTION)


@contextmanager
def _running(layers: Sequence[nn.Module]) -> Iterator[set[int]]:
    """The numbers of the layers that run inside the block."""
    ran: set[int] = set()
    hooks = [
        layer.register_forward_hook(lambda *_, number=number: ran.add(number))
        for number, layer in enumerate(layers)
    ]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def _adapts(layer: nn.Module) -> bool:
    """Whether a layer has an adapter that is switched on."""
    return isinstance(layer, BaseTunerLayer) and not layer.disable_adapters
