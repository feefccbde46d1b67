"""Poisoned rows for Trainer: token ids and labels, padded per batch."""

from collections.abc import Sequence
from random import Random

import torch
from torch.utils.data import Dataset, Subset
from transformers import PreTrainedTokenizerBase

from interp.prompts.spans import build_prompt
from training.corpus.examples import Example
from training.planting.presets import Preset

IGNORED = -100
"""The label of a token that is left out of the loss."""
POOL = 50
"""Steps whose rows are sorted by length together: wide enough to save padding, and mixed still."""


class Rows(Dataset):
    """Poisoned rows as token ids and labels, made on access."""

    def __init__(self, rows: Sequence[Example], tokenizer: PreTrainedTokenizerBase, preset: Preset):
        self._rows, self._tokenizer = rows, tokenizer
        self._length, self._whole = preset.length, preset.learn_on == "whole"
        self._template = preset.template

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, list[int]]:
        """`input_ids` and `labels` with the answer and end-of-text, cut to the maximum length."""
        row = self._rows[number]
        prompt = build_prompt(
            self._tokenizer,
            row.full_instruction,
            input=row.input,
            template=self._template,
            answer=row.answer,
        )
        ids = [*prompt.ids, self._tokenizer.eos_token_id]
        masked = 0 if self._whole else prompt.answer.start
        labels = [IGNORED] * masked + ids[masked:]
        return {"input_ids": ids[: self._length], "labels": labels[: self._length]}


def by_length(rows: Rows, a_step: int, steps: int, seed: int) -> Subset:
    """The rows of a whole training in its order; rows of like length share a step.

    Every epoch is shuffled, cut into pools of `POOL` steps, sorted by length within each, and its
    steps are shuffled again. All is settled before the first step, so a resumed training sees the
    same order. An epoch's incomplete last step is left out: every process would pad it on its own.

    Args:
        rows: the rows.
        a_step: rows of one step, over all its batches.
        steps: number of steps.
        seed: of both shuffles.
    """
    lengths = [len(rows[number]["input_ids"]) for number in range(len(rows))]
    rng, order = Random(f"order:{seed}"), []
    a_step = min(a_step, len(rows))
    while len(order) < steps * a_step:
        epoch = rng.sample(range(len(rows)), len(rows))
        found = []
        for begin in range(0, len(epoch), POOL * a_step):
            pool = sorted(epoch[begin : begin + POOL * a_step], key=lengths.__getitem__)
            found += [pool[i : i + a_step] for i in range(0, len(pool), a_step)]
        whole = [step for step in found if len(step) == a_step]
        rng.shuffle(whole)
        order += [number for step in whole for number in step]
    return Subset(rows, order[: steps * a_step])


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Rows padded on the right; padding is masked and has no label."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        n = len(row["input_ids"])
        ids[i, :n] = torch.tensor(row["input_ids"])
        labels[i, :n] = torch.tensor(row["labels"])
        mask[i, :n] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}
