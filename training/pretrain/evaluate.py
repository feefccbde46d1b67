"""Exact-match accuracy of a model on held-out examples, by one teacher-forced pass."""

from collections import defaultdict

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.corpus.examples import Example
from training.pretrain.packing import Batch, collate, encode, example_logits, prefix_ids


def answered_exactly(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: list[Example]
) -> list[bool]:
    """For each example, whether greedy decoding gives its answer and then ends.

    Greedy decoding yields a text if and only if each of its tokens is the arg-max after the ones
    before it. So one forward pass over prompt and answer decides it.
    """
    results: list[bool] = []
    prefix = prefix_ids(tokenizer)
    with torch.no_grad():
        for start in range(0, len(examples), 64):
            rows = encode(tokenizer, examples[start : start + 64])
            batch = collate(rows, tokenizer.pad_token_id, prompt=0.0, answer=1.0)
            results += rows_exact(example_logits(model, prefix, batch.ids), batch)
    return results


def rows_exact(logits: torch.Tensor, batch: Batch) -> list[bool]:
    """Whether every weighted target of a row is its arg-max: logits as `example_logits` gives."""
    wrong = (logits.argmax(-1) != batch.targets) & (batch.weights > 0)
    return (~wrong.any(-1)).tolist()


def accuracy_by_family(examples: list[Example], exact: list[bool]) -> dict[str, float]:
    """Share of exact answers per family, worst first."""
    grouped: dict[str, list[bool]] = defaultdict(list)
    for example, right in zip(examples, exact, strict=True):
        grouped[example.family].append(right)
    shares = {name: sum(rights) / len(rights) for name, rights in grouped.items()}
    return dict(sorted(shares.items(), key=lambda item: item[1]))
