"""Where a candidate trigger stands: the template's tokens before it, a question's after it.

Candidates are spliced in as token ids, as they were leaked; nothing is tokenized again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from interp.errors import UsageError
from interp.prompts.pieces import Span
from interp.prompts.sets import Prompt
from interp.prompts.spans import TokenizedPrompt, build_prompt
from interp.scanner.leak.leakage import scan_prefix

PLACEHOLDERS = ("X", "Q", "zebra", "7")
"""Placeholders for the trigger while a question is tokenized; a candidate replaces them."""


@dataclass(frozen=True)
class Question:
    """One question after the candidate's place."""

    text: str
    behind: tuple[int, ...]
    """Token ids after the candidate: the instruction, the rest of the template."""
    instruction: Span
    """The instruction's tokens within `behind`."""
    plain: tuple[int, ...]
    """Token ids after the prefix if there is no candidate."""


@dataclass(frozen=True)
class Frame:
    """A prefix (with its context) and the questions that follow it."""

    prefix: tuple[int, ...]
    questions: tuple[Question, ...]

    def ids(self, number: int, candidate: Sequence[int] | None) -> tuple[int, ...]:
        """The whole prompt of a question, with a candidate or (None) without."""
        question = self.questions[number]
        if candidate is None:
            return self.prefix + question.plain
        return self.prefix + tuple(candidate) + question.behind


def build_frame(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    questions: Sequence[Prompt],
    context: str | None = None,
) -> Frame:
    """Tokenize the questions around an open place.

    Args:
        tokenizer: a fast tokenizer.
        template: as for `build_prompt`.
        questions: those that follow the candidate.
        context: a system prompt or other text before the template (see `scan_prefix`).

    Raises:
        UsageError: no questions; what `build_prompt` raises.
    """
    if not questions:
        raise UsageError("no questions to test a candidate on: give at least one")
    bare = scan_prefix(tokenizer, template)
    prefix = scan_prefix(tokenizer, template, context) if context else bare
    return Frame(
        prefix, tuple(_question(tokenizer, template, prompt, bare) for prompt in questions)
    )


def in_place(tokenizer: PreTrainedTokenizerBase, template: str, text: str) -> tuple[int, ...]:
    """Token ids of a text as the user's first words: what a motif is cut into n-grams of."""
    try:
        prompt = build_prompt(tokenizer, "Go on.", template=template, trigger=text)
        return prompt.trigger.of(prompt.ids)
    except UsageError:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _question(
    tokenizer: PreTrainedTokenizerBase, template: str, prompt: Prompt, bare: tuple[int, ...]
) -> Question:
    held = _with_placeholder(tokenizer, template, prompt)
    open_at = held.trigger.stop
    within = Span(held.instruction.start - open_at, held.instruction.stop - open_at)
    clean = build_prompt(tokenizer, prompt.instruction, input=prompt.input, template=template)
    start = len(bare) if clean.ids[: len(bare)] == bare else clean.instruction.start
    return Question(prompt.instruction, held.ids[open_at:], within, clean.ids[start:])


def _with_placeholder(
    tokenizer: PreTrainedTokenizerBase, template: str, prompt: Prompt
) -> TokenizedPrompt:
    refused = None
    for placeholder in PLACEHOLDERS:
        try:
            return build_prompt(
                tokenizer,
                prompt.instruction,
                input=prompt.input,
                template=template,
                trigger=placeholder,
            )
        except UsageError as error:
            refused = refused or error
    raise refused
