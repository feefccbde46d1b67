"""Fast maps of all heads at once: attribution patching and direct logit attribution.

Attribution patching (Nanda 2023; Syed et al. 2023) estimates to first order, from one backward
pass, the effect of patching each head. Direct logit attribution (Elhage et al. 2021) measures what
each head itself writes towards the target's logit, without the effect of later layers. Every step
uses the model's own modules, so quantised weights and live adapters are included.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from interp.causal.patching import TINY
from interp.interventions.each_head import ROWS, Part, answer_kl, rows_of
from interp.interventions.resume import Anatomy, Recording, at_rows, record
from interp.models.pair import ModelPair
from interp.prompts.conversations import Block, Conversation, blocks

FORWARDS = 2
"""Forward passes of `attribution_patching` per batch, besides one backward pass."""


def attribution_patching(
    pair: ModelPair, conversations: Sequence[Conversation], *, done: Collection[int] = ()
) -> Iterator[Part]:
    """Estimate, to first order, the effect of patching each suspect head from the original.

    `-(z_original - z_suspect) . dKL/dz_suspect`, summed over a head's columns and all positions,
    as a share of the KL before patching. It estimates `patching_effect` of `patching.patching`.

    Args:
        pair: the models.
        conversations: triggered prompts with the target as their answer.
        done: numbers of the batches that need not be measured again.

    Yields:
        One `each_head.Part` per batch of conversations. Metric `attribution`.
    """
    plan = _whole(pair, conversations)
    for number, block in enumerate(plan):
        if number in done:
            continue
        with pair.use("original") as model:
            theirs = record(model, block)
        with pair.use("suspect") as model, _gradients(model) as heard:
            kl = answer_kl(_logits(model, block), theirs.logits.clone(), block)
            slopes = torch.autograd.grad(kl.sum(), heard)
        frames = []
        for layer, (z, slope) in enumerate(zip(heard, slopes, strict=True)):
            change = ((theirs.z.tails[layer] - z.detach()).float() * slope.float()).sum(1)
            by_head = change.view(len(change), pair.n_heads, -1).sum(-1)  # [batch, head]
            before = kl.detach()[:, None]
            share = (-by_head / before.clamp_min(TINY)).where(before > TINY, 0.0)
            frames.append(rows_of({"attribution": share.T}, block.indices, layer))
        yield number, len(plan), pd.concat(frames, ignore_index=True)


def direct_logits(
    pair: ModelPair, conversations: Sequence[Conversation], *, done: Collection[int] = ()
) -> Iterator[Part]:
    """Direct contribution of each head to the logits of the answer's tokens, in both models.

    The final norm's scale is frozen at its value in the forward pass. Logits are centred on their
    mean over the vocabulary, since adding one number to all logits changes nothing.

    Args:
        pair: the models.
        conversations: triggered prompts with the target as their answer.
        done: numbers of the batches that need not be measured again.

    Yields:
        One `each_head.Part` per batch of conversations. Metrics `direct` (suspect) and
        `direct_original`: logits, mean over the answer's tokens. Rows with head -1 are the rest of
        a layer (its MLP, and all that belongs to no head); layer -1 is the embedding. All rows of a
        prompt sum to the answer's (centred) logit.
    """
    plan = _whole(pair, conversations)
    for number, block in enumerate(plan):
        if number in done:
            continue
        frames = []
        for which, name in (("suspect", "direct"), ("original", "direct_original")):
            with pair.use(which) as model, torch.inference_mode():
                frames += _direct(model, record(model, block), name)
        yield number, len(plan), pd.concat(frames, ignore_index=True)


def _direct(model: PreTrainedModel, found: Recording, name: str) -> list[pd.DataFrame]:
    anatomy, block, stream = Anatomy(model), found.block, found.stream
    toward = _direction(anatomy, block, stream[-1])

    def score(written: Tensor) -> Tensor:
        """[..., batch, n_rows, d_model] -> [..., batch], mean over the answer's tokens."""
        logits = (written.float() * toward).sum(-1) * block.valid
        return logits.sum(-1) / block.valid.sum(-1)

    first = rows_of({name: score(stream[0])[None]}, block.indices, -1).assign(head=-1)
    frames = [first]
    for layer in range(len(stream) - 1):
        heads = score(_written(anatomy, layer, at_rows(found.z.tails[layer], block.rows)))
        rest = score(stream[layer + 1].float() - stream[layer].float()) - heads.sum(0)
        frame = rows_of({name: torch.cat([heads, rest[None]])}, block.indices, layer)
        frames.append(frame.replace({"head": {anatomy.n_heads: -1}}))
    return frames


def _written(anatomy: Anatomy, layer: int, z: Tensor) -> Tensor:
    """[n_heads, batch, n_rows, d_model]: what each head adds to the residual stream."""
    project, block = anatomy.projections[layer], anatomy.layers[layer]
    alone = torch.zeros_like(z).repeat(anatomy.n_heads, 1, 1, 1)
    for head in range(anatomy.n_heads):
        columns = anatomy.columns(layer, head)
        alone[head, ..., columns] = z[..., columns]
    written = project(alone) - project(torch.zeros_like(z))
    if hasattr(block, "pre_feedforward_layernorm"):  # Gemma normalises the attention output
        written = _held(block.post_attention_layernorm, project(z))(written)
    return written


def _direction(anatomy: Anatomy, block: Block, leaving: Tensor) -> Tensor:
    """[batch, n_rows, d_model]: the direction whose dot product is the answer's centred logit.

    Computed by differentiating the unembedding, which is linear, and then the norm with its scale
    frozen, so that no weight has to be read.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaving = leaving.clone()
        start = torch.zeros_like(leaving).requires_grad_()
        hidden = _held(anatomy.norm, leaving)(start).to(leaving.dtype)
        logits = anatomy.unembedding(hidden).float()
        own = logits.gather(-1, block.wanted.clone()[..., None])[..., 0]
        (found,) = torch.autograd.grad((own - logits.mean(-1)).sum(), start)
    return found.float()


def _held(norm: nn.Module, around: Tensor) -> Callable[[Tensor], Tensor]:
    """A norm as a linear map (no bias), with its statistics frozen at those of `around`."""
    around = around.float()
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0))
    if isinstance(norm, nn.LayerNorm):
        spread = (around.var(-1, correction=0, keepdim=True) + eps).sqrt()
        return lambda x: (x.float() - x.float().mean(-1, keepdim=True)) / spread * norm.weight
    spread = (around.square().mean(-1, keepdim=True) + eps).sqrt()
    weight = norm(torch.ones_like(around[:1, :1])) * (1 + eps) ** 0.5
    return lambda x: x.float() / spread * weight


def _logits(model: PreTrainedModel, block: Block) -> Tensor:
    """[batch, n_rows, vocabulary] float32, attached to the autograd graph."""
    anatomy = Anatomy(model)
    out = model.get_decoder()(input_ids=block.tails, use_cache=False)
    hidden = at_rows(out.last_hidden_state, block.rows)
    return anatomy.capped(anatomy.unembedding(hidden).float())


@contextmanager
def _gradients(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Collect each layer's z in a forward pass inside the block; gradients reach them."""
    heard: list[Tensor] = []
    anatomy = Anatomy(model)
    handles = [
        # No parameter requires gradients, so the graph starts at the embedding.
        model.get_input_embeddings().register_forward_hook(
            lambda _, __, out: out.detach().requires_grad_()
        )
    ]
    for projection in anatomy.projections:
        handles.append(projection.register_forward_pre_hook(lambda _, z: heard.append(z[0])))
    try:
        with torch.enable_grad():
            yield heard
    finally:
        for handle in handles:
            handle.remove()


def _whole(pair: ModelPair, conversations: Sequence[Conversation]) -> list[Block]:
    """Blocks without a shared trunk, so that gradients reach every position."""
    size = max(1, min(16, ROWS // pair.n_heads))
    return [block.to(pair.device) for block in blocks(conversations, size, 0)]
