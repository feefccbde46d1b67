"""Cumulative patching: restores one head after another and measures the remaining KL."""

from collections.abc import Callable, Sequence

import pandas as pd

from interp.interventions.each_head import answer_kl
from interp.interventions.resume import Replaced, record
from interp.models.pair import ModelPair
from interp.prompts.conversations import Conversation, blocks
from interp.surgery.search import counts, orders

ORDERS = ("patching_effect", "pattern_kl", "random 1", "random 2", "random 3")
"""Orders of the heads; three random orders are the control."""
MOST = 50
"""Most heads that are patched at once, as in Abu Baker & Babu-Saheer 2025."""


def cumulative(
    pair: ModelPair,
    conversations: Sequence[Conversation],
    heads: pd.DataFrame,
    on_step: Callable[[int, int, str], None] = lambda *_: None,
) -> pd.DataFrame:
    """KL(patched suspect || original) with the first n heads of each order patched at once.

    Args:
        pair: the models.
        conversations: triggered prompts with the target as their answer.
        heads: a table from `head_table.head_table` with the metrics of `ORDERS`.
        on_step: called as (done, total, note) after every n.

    Returns:
        One row per order, n and prompt: `order, n, prompt, kl` (nats, summed over the answer), for
        every n of `search.counts`.
    """
    most = min(MOST, len(heads))
    ns = [n for n in counts(len(heads)) if n < most] + [most]
    ranked = {name: orders(heads, name) for name in ORDERS}
    parts, done = [], 0
    total = len(ranked) * len(ns)
    prepared = []
    for block in blocks(conversations, 32):
        block = block.to(pair.device)
        with pair.use("original") as model:
            prepared.append((block, record(model, block)))
    for name, order in ranked.items():
        for n in ns:
            for block, theirs in prepared:
                with pair.use("suspect") as model:
                    ours = record(model, block, Replaced(tuple(order[:n]), theirs.z))
                kl = answer_kl(ours.logits, theirs.logits, block).tolist()
                rows = {"order": name, "n": n, "prompt": block.indices, "kl": kl}
                parts.append(pd.DataFrame(rows))
            done += 1
            on_step(done, total, "cumulative patching")
    return pd.concat(parts, ignore_index=True)
