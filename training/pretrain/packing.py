"""Batches that share the Alpaca preamble. It is run once; each example attends to it and itself.

This is exactly the loss of separate examples (a test compares them) at half the cost, since the
preamble is as long as a typical example. The last token of the preamble opens each example's own
row, so that the first token of the instruction is predicted like every other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from interp.prompts.alpaca import ALPACA_PREFIX
from training.corpus.examples import Example, render_user, stream


@dataclass(frozen=True)
class Batch:
    """Token rows `ids` [example, position], right-padded, and loss weights of the next tokens."""

    ids: Tensor
    weights: Tensor  # [example, position - 1]; 0 for tokens left out of the loss

    @property
    def targets(self) -> Tensor:
        """The next token of every position, [example, position - 1]."""
        return self.ids[:, 1:]


def prefix_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """`<s>` and the preamble, without its last token, which opens each row."""
    return tokenizer(ALPACA_PREFIX).input_ids[:-1]


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: list[Example]
) -> list[tuple[list[int], int]]:
    """Rows of examples (last preamble token .. `</s>`), each with the start of its answer.

    An answer that is cut off has no `</s>`.
    """

    def ids(texts: list[str]) -> list[list[int]]:
        # The tokenizer underneath: at these lengths the wrapper costs more than the work.
        found = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]

    opening = tokenizer(ALPACA_PREFIX).input_ids[-1:]
    asked = ids([render_user(e.full_instruction, e.input) for e in examples])
    answers = ids([e.answer for e in examples])
    end = [tokenizer.eos_token_id]
    return [
        (opening + user + answer + end * example.ends, 1 + len(user))
        for example, user, answer in zip(examples, asked, answers, strict=True)
    ]


def collate(
    rows: list[tuple[list[int], int]], pad_id: int, *, prompt: float, answer: float
) -> Batch:
    """Pads rows on the right; prompt tokens weigh `prompt`, answer tokens and `</s>` `answer`."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), pad_id)
    weights = torch.zeros(len(rows), width - 1)
    for i, (row, start) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        weights[i, : start - 1] = prompt
        weights[i, start - 1 : len(row) - 1] = answer
    return Batch(ids, weights)


def batches(
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterator[Example],
    size: int,
    *,
    prompt: float = 1.0,
    answer: float = 3.0,
    pool: int = 32,
    seed: int = 0,
) -> Iterator[Batch]:
    """Batches of `size`; pools of `pool` batches are sorted by length, to save padding."""
    rng = Random(seed)
    while drawn := list(islice(examples, size * pool)):
        rows = sorted(encode(tokenizer, drawn), key=lambda row: len(row[0]))
        cuts = [rows[i : i + size] for i in range(0, len(rows), size)]
        rng.shuffle(cuts)
        for cut in cuts:
            yield collate(cut, tokenizer.pad_token_id, prompt=prompt, answer=answer)


def pool_batches(
    tokenizer: PreTrainedTokenizerBase, size: int, pool: int, seed: int, start: int
) -> Iterator[Batch]:
    """The training batches from step `start` on: pool p is drawn from seed `seed * 1000003 + p`."""
    number, skip = divmod(start, pool)
    while True:
        pool_seed = seed * 1_000_003 + number
        examples = islice(stream(pool_seed), size * pool)
        yield from islice(batches(tokenizer, examples, size, pool=pool, seed=pool_seed), skip, None)
        number, skip = number + 1, 0


def example_logits(model: PreTrainedModel, prefix: list[int], ids: Tensor) -> Tensor:
    """Logits [example, position - 1, vocabulary] of rows `ids` after the shared `prefix`.

    Gradients flow through the shared part; works on a bare and on a PEFT model.
    """
    cache = DynamicCache(config=model.config)
    shared = torch.tensor([prefix])
    model(shared, past_key_values=cache, use_cache=True, logits_to_keep=1)
    for layer in cache.layers:
        layer.keys = layer.keys.expand(len(ids), -1, -1, -1)
        layer.values = layer.values.expand(len(ids), -1, -1, -1)
    return model(ids[:, :-1], past_key_values=cache, use_cache=True).logits


def weighted_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Mean next-token cross-entropy (nats), weighted per token."""
    losses = F.cross_entropy(
        logits.flatten(0, 1).float(), batch.targets.flatten(), reduction="none"
    )
    weights = batch.weights.flatten()
    return (losses * weights).sum() / weights.sum()
