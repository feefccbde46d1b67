"""Is a TransformerBridge the model that it was booted on? Asked on text, before it is believed.

Two answers. Every layer that an adapter sits on must have run in the bridge, where it ran in the
model: a bridge that takes a matrix past its adapter is found out however little the adapter
changes. And the logits must agree as far as the model's precision lets them: in bf16 two right
implementations of attention differ by per cents behind 30 layers, so the model's own difference
between ours and the eager one is the measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.capture import ATTENTION, use_attention

TEXT = (
    "The river was high after a week of rain, and the old stone bridge had been closed since "
    'Monday. People on the other side left home an hour earlier. "It could be worse," said the '
    "baker, who still had 3 ovens and flour for 12 days.\n"
)
MOST_TOKENS = 64
TIMES = 3.0
"""So many times the model's own noise is taken for noise."""
LEAST = 1e-4
"""Of logits, relative: what is never more than noise. Right bridges in fp32: 1e-6 at most."""


def check_bridge(
    model: PreTrainedModel, bridge: nn.Module, twin: nn.Module, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Run one text through both.

    Args:
        model: the Hugging Face model, through `span_sdpa`, its adapter switched.
        bridge: booted on `twin`.
        twin: a copy of the model's modules, switched alike.
        tokenizer: the model's.

    Raises:
        ValueError: the bridge takes a matrix past its adapter, or gives other logits.
    """
    ids = probe(tokenizer, model)
    with torch.inference_mode():
        with _running(model) as ours_ran:
            ours = model(input_ids=ids, use_cache=False).logits
        with _running(twin) as theirs_ran:
            theirs = bridge(ids)
        missed = sorted(ours_ran - theirs_ran)
        if missed:
            raise ValueError(
                f"it takes {len(missed)} matrices past their adapters, {missed[0]} first"
            )
        gap = apart(theirs, ours)
        if gap <= LEAST:
            return
        noise = apart(_eager(model, ids), ours)
    if not gap <= max(LEAST, TIMES * noise):
        raise ValueError(
            f"its logits differ from the model's by {gap:.1%} of their spread, and rounding alone "
            f"makes {noise:.1%}"
        )


def probe(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Tensor:
    """[1, pos] of plain text, as far as the vocabulary has rows; at least eight tokens."""
    rows = model.get_input_embeddings().weight.shape[0]
    ids = [token for token in tokenizer(TEXT).input_ids if token < rows][:MOST_TOKENS]
    ids = ids if len(ids) >= 8 else list(range(min(rows, 8)))
    return torch.tensor([ids], device=model.device)


def apart(other: Tensor, reference: Tensor) -> float:
    """Root mean square difference, as a share of the reference's standard deviation.

    Args:
        other: logits [1, pos, vocabulary].
        reference: likewise.
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
def _running(root: nn.Module) -> Iterator[set[str]]:
    """The names of the adapted layers that run inside the block."""
    ran: set[str] = set()
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
        for name, module in _adapted(root)
    ]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def _adapted(root: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in root.named_modules() if isinstance(m, BaseTunerLayer)]
