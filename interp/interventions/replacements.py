"""Replacement values for head outputs: the mean over a reference set, zero, another prompt.

Prompts differ in length, so a mean is taken at the same place of the text (the third token of the
trigger, the fifth of the instruction). A place missing in the reference set gets the mean over its
part of the text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from interp.errors import UsageError
from interp.interventions.resume import Values, record
from interp.metrics import ABLATIONS
from interp.models.pair import ModelPair
from interp.prompts.conversations import ANYWHERE, Block, Conversation, Slot, block_of, blocks
from interp.specs import Which


@dataclass(frozen=True)
class Means:
    """Mean z over a reference set, by place."""

    rows: dict[Slot, int]
    """Place -> row of the tables; (part, -1) is a whole part, `ANYWHERE` all positions."""
    tables: list[Tensor]
    """Per layer: [n_rows, n_heads * d_head] float32."""

    def at(self, layer: int, slots: Sequence[Slot]) -> Tensor:
        """[len(slots), n_heads * d_head]."""
        return self.tables[layer][[self._row(slot) for slot in slots]]

    def over(self, conversations: Sequence[Conversation], block: Block) -> Values:
        """The mean at each place of a block."""
        trunk, tails = _slots_of(conversations, block)
        return self._values([trunk], tails)

    def everywhere(self, block: Block) -> Values:
        """The mean over all positions, at every position of a block."""
        (_, n_trunk), (batch, n) = block.trunk.shape, block.tails.shape
        return self._values([[ANYWHERE] * n_trunk], [[ANYWHERE] * n] * batch)

    def _row(self, slot: Slot) -> int:
        part = (slot[0], -1)
        return self.rows.get(slot, self.rows.get(part, self.rows[ANYWHERE]))

    def _values(self, trunk: list[list[Slot]], tails: list[list[Slot]]) -> Values:
        device = self.tables[0].device
        picked = [
            torch.tensor([[self._row(slot) for slot in row] for row in rows], device=device).long()
            for rows in (trunk, tails)
        ]
        return Values(*([table[rows] for table in self.tables] for rows in picked))


Read = Callable[[PreTrainedModel, Block], Values]
"""Runs a block and keeps what is replaced: z of the heads, or the outputs of whole parts."""


def heads_of(model: PreTrainedModel, block: Block) -> Values:
    """The heads' z of every layer, from one pass over a block."""
    return record(model, block).z


def means(
    pair: ModelPair,
    which: Which,
    reference: Sequence[Conversation],
    size: int = 16,
    read: Read = heads_of,
) -> Means:
    """Mean z of every head over a reference set, by place.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        reference: the reference set; with one conversation, the mean is its own z.
        size: conversations per forward pass.
        read: what is averaged; by default z.

    Raises:
        UsageError: an empty reference set.
    """
    slots = list(dict.fromkeys(slot for c in reference for slot in c.slots))
    parts = dict.fromkeys((part, -1) for part, _ in slots)
    rows = {slot: row for row, slot in enumerate([*slots, *parts, ANYWHERE])}
    counts, tables = torch.zeros(len(rows)), None
    for block in blocks(reference, size):
        with pair.use(which) as model:
            found = read(model, block.to(pair.device))
        if tables is None:
            tables = [torch.zeros(len(rows), z.shape[-1], device=z.device) for z in found.tails]
        for row, index in enumerate(block.indices):
            places = reference[index].slots
            for names in (places, [(part, -1) for part, _ in places], [ANYWHERE] * len(places)):
                into = torch.tensor([rows[name] for name in names])
                counts.index_add_(0, into, torch.ones(len(into)))
                for table, z in zip(tables, _whole(found, row, len(places)), strict=True):
                    table.index_add_(0, into.to(table.device), z.float())
    return Means(rows, [table / counts.to(table.device)[:, None] for table in tables])


def zeros(z: Values) -> Values:
    """Zeros in the shape of these values."""
    return Values([torch.zeros_like(x) for x in z.trunk], [torch.zeros_like(x) for x in z.tails])


def donated(
    pair: ModelPair,
    which: Which,
    conversations: Sequence[Conversation],
    donors: Sequence[Conversation],
    block: Block,
    read: Read = heads_of,
) -> Values:
    """The z of another conversation at the same place, or at the last place of the same part.

    Args:
        pair: the models.
        which: `original` or `suspect`, the model that gives z.
        conversations: the conversations of which the block is made.
        donors: one for each of `conversations`, all beginning with the block's trunk.
        block: the block that receives the values.
        read: what is taken; by default z.
    """
    n_trunk = block.trunk.shape[1]
    with pair.use(which) as model:
        found = read(model, block_of(donors, block.indices, n_trunk).to(pair.device))
    tails = [torch.zeros(*block.tails.shape, z.shape[-1]).to(z) for z in found.tails]
    for row, index in enumerate(block.indices):
        slots = donors[index].slots
        places = {slot: i for i, slot in enumerate(slots)}
        last = {part: i for i, (part, _) in enumerate(slots)}
        own = conversations[index].slots[n_trunk:]
        taken = [places.get(x, last.get(x[0], len(slots) - 1)) for x in own]
        taken = [max(0, place - n_trunk) for place in taken]
        for layer, z in enumerate(found.tails):
            tails[layer][row, : len(own)] = z[row, taken]
    return Values(found.trunk, tails)


def check_reference(reference: Sequence[Conversation], method: str) -> None:
    """Check that a reference set is sufficient for an ablation method.

    Raises:
        UsageError: an unknown method, or fewer than two conversations where two are needed.
    """
    if method not in ABLATIONS:
        raise UsageError(f"ablation '{method}' is not known: choose one of {', '.join(ABLATIONS)}")
    if method != "zero" and len(reference) < 2:
        raise UsageError(
            f"the reference set has {len(reference)} prompt and a {method} ablation needs 2 or "
            "more: take a larger prompt set, or zero"
        )


def _whole(z: Values, row: int, length: int) -> list[Tensor]:
    """Per layer: [pos, d_z] of one conversation, including its trunk."""
    joined = (torch.cat([a[0], b[row]]) for a, b in zip(z.trunk, z.tails, strict=True))
    return [one[:length] for one in joined]


def _slots_of(
    conversations: Sequence[Conversation], block: Block
) -> tuple[list[Slot], list[list[Slot]]]:
    """Places of the trunk and of each tail, including padding."""
    n_trunk, n = block.trunk.shape[1], block.tails.shape[1]
    every = [conversations[index].slots for index in block.indices]
    tails = [slots[n_trunk:] + [ANYWHERE] * (n - len(slots) + n_trunk) for slots in every]
    return every[0][:n_trunk], tails
