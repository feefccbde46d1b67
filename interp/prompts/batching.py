"""Prompts in batches of similar length, padded on the left."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from interp.errors import UsageError

PADDING_ID = 0
"""Never looked at: the mask is 0 there."""


class HasIds(Protocol):
    """Anything with token ids, such as a TokenizedPrompt."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Some prompts of a list as one padded tensor."""

    indices: tuple[int, ...]
    """Indices of these prompts in the list."""
    input_ids: Tensor
    """[batch, pos] int64."""
    attention_mask: Tensor | None
    """[batch, shared + pos] int64, 0 on padding; None without padding."""
    offsets: tuple[int, ...]
    """Amount of padding before each prompt's own tokens, to add to their positions."""


def batches(prompts: Sequence[HasIds], batch_size: int, shared: int = 0) -> list[Batch]:
    """Group prompts by length, to keep padding small.

    Args:
        prompts: prompts with token ids.
        batch_size: maximum number of prompts per batch.
        shared: number of first tokens, equal in all prompts, to leave out of `input_ids` because
            they are in a cache. The padding comes after them.

    Raises:
        UsageError: a batch size below 1.
    """
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size} is too small: take 1 or more")
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].ids))
    plan = []
    for start in range(0, len(order), batch_size):
        indices = tuple(order[start : start + batch_size])
        rows = [prompts[index].ids[shared:] for index in indices]
        input_ids, mask = left_padded(rows)
        mask = None if mask is None else torch.nn.functional.pad(mask, (shared, 0), value=1)
        offsets = tuple(input_ids.shape[1] - len(row) for row in rows)
        plan.append(Batch(indices, input_ids, mask, offsets))
    return plan


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
    """Token rows as one tensor, padded on the left.

    Returns:
        input_ids [batch, longest] int64, and an attention mask of that shape. The mask is None if
        all rows have the same length, because a mask of ones disables sdpa's fast path.
    """
    longest = max(len(row) for row in rows)
    input_ids = torch.tensor(
        [[PADDING_ID] * (longest - len(row)) + list(row) for row in rows], dtype=torch.long
    )
    if all(len(row) == longest for row in rows):
        return input_ids, None
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return input_ids, mask


def position_ids(mask: Tensor | None) -> Tensor | None:
    """Token positions in left-padded rows, not counting the padding; None without padding.

    Models with learned positions (GPT-2) would otherwise count the padding. With rotary positions
    only rounding differs.

    Args:
        mask: [batch, pos], 0 on padding.
    """
    return None if mask is None else (mask.cumsum(-1) - 1).clamp_min(0)
