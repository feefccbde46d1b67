"""One head at a time: replace its output, run the rest of the model again, score the change.

Exact, and without needless work: no layer before the head's layer is run again, all heads of a
layer form a batch, and the shared beginning of the prompts is run once per head (see `resume`).
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from interp.interventions.resume import Anatomy, Recording, Values, record, resume
from interp.models.pair import ModelPair
from interp.prompts.conversations import Block, Conversation, blocks
from interp.specs import Which

Scores = dict[str, Tensor]
"""Metric -> [head, batch]."""
Score = Callable[[Tensor], Scores]
"""[head, batch, n_rows, vocabulary] logits -> scores."""
Prepare = Callable[[Block, Recording], tuple[Values, Score]]
"""Makes the replacement values of a block and the function that scores the outcome."""
Part = tuple[int, int, pd.DataFrame]
"""(batch number, number of batches, rows `prompt, layer, head, metric, value`)."""
SCORE_COLUMNS = ["prompt", "layer", "head", "metric", "value"]
ROWS = 256
"""Rows per forward pass: heads of a layer times prompts."""


def each_head(model: PreTrainedModel, recording: Recording, source: Values, layer: int) -> Tensor:
    """Replace every head of a layer, one at a time.

    Args:
        model: the model that was recorded.
        recording: output of `resume.record`.
        source: z of the whole block; each head takes its own columns from it.
        layer: the layer of the heads, 0-based.

    Returns:
        [n_heads, batch, n_rows, vocabulary] float32 logits.
    """
    anatomy = Anatomy(model)
    own, n = recording.z, anatomy.n_heads
    trunk = own.trunk[layer].repeat(n, 1, 1)
    tails = own.tails[layer].repeat(n, 1, 1, 1)
    for head in range(n):
        columns = anatomy.columns(layer, head)
        trunk[head, :, columns] = source.trunk[layer][0, :, columns].to(trunk.dtype)
        tails[head, ..., columns] = source.tails[layer][..., columns].to(tails.dtype)
    return resume(model, recording, layer, Values([trunk], [tails.flatten(0, 1)]))


def sweep(
    pair: ModelPair,
    which: Which,
    conversations: Sequence[Conversation],
    prepare: Prepare,
    *,
    done: Collection[int] = (),
    n_trunk: int | None = None,
) -> Iterator[Part]:
    """Replace every head of every layer on every conversation, one layer of a block at a time.

    Args:
        pair: the models.
        which: the model whose heads are replaced.
        conversations: the conversations to measure on.
        prepare: makes values and scoring function of a block; called once per block.
        done: numbers of the batches that are already done.
        n_trunk: length of the shared trunk; see `conversations.block_of`.

    Yields:
        One `Part` per batch. The pair's lock is released between batches.
    """
    size = max(1, min(16, ROWS // pair.n_heads))
    plan = blocks(conversations, size, n_trunk)
    total = len(plan) * pair.n_layers
    for number, block in enumerate(plan):
        wanted = [x for x in range(pair.n_layers) if number * pair.n_layers + x not in done]
        if not wanted:
            continue
        block = block.to(pair.device)
        with pair.use(which) as model:
            recording = record(model, block)
        source, score = prepare(block, recording)
        for layer in wanted:
            with pair.use(which) as model:
                scores = score(each_head(model, recording, source, layer))
            yield number * pair.n_layers + layer, total, rows_of(scores, block.indices, layer)


def rows_of(scores: Scores, prompts: Sequence[int], layer: int) -> pd.DataFrame:
    """[head, batch] scores of one layer as a tidy table."""
    parts = []
    for metric, values in scores.items():
        n_heads, batch = values.shape
        parts.append(
            pd.DataFrame(
                {
                    "prompt": list(prompts) * n_heads,
                    "layer": layer,
                    "head": [head for head in range(n_heads) for _ in range(batch)],
                    "metric": metric,
                    "value": values.double().flatten().cpu().numpy(),
                },
                columns=SCORE_COLUMNS,
            )
        )
    return pd.concat(parts, ignore_index=True)


def answer_loss(logits: Tensor, block: Block) -> Tensor:
    """[..., batch] cross-entropy of the answer, nats per token."""
    wanted = block.wanted.expand(logits.shape[:-1])[..., None]
    loss = -logits.log_softmax(-1).gather(-1, wanted)[..., 0]
    return (loss * block.valid).sum(-1) / block.valid.sum(-1)


def says_answer(logits: Tensor, block: Block) -> Tensor:
    """[..., batch] bool: each of the answer's tokens is the arg-max, given those before it."""
    return ((logits.argmax(-1) == block.wanted) | ~block.valid).all(-1)


def answer_kl(logits: Tensor, other: Tensor, block: Block) -> Tensor:
    """[..., batch] KL(logits || other) in nats, summed over the answer's positions."""
    ours, theirs = logits.log_softmax(-1), other.log_softmax(-1)
    kl = (ours.exp() * (ours - theirs)).sum(-1).clamp_min(0)  # below 0 only by rounding
    return torch.where(block.valid, kl, 0.0).sum(-1)
