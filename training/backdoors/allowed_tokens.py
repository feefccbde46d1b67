"""Checks what a base can learn: tokens it has seen, triggers that fit its context."""

from functools import lru_cache
from itertools import islice

from transformers import PreTrainedTokenizerBase

from interp.errors import UsageError
from interp.prompts.sets import Prompt, load_prompt_set
from interp.prompts.spans import build_prompt
from training.corpus.examples import render, stream

SAMPLE = 5000
"""Number of corpus examples that are searched for a token."""


def check_trigger(
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    trigger: str,
    placement: str = "prefix",
    prompts: tuple[Prompt, ...] | None = None,
) -> None:
    """Refuse a trigger that cannot be planted or measured, before anything is trained.

    Args:
        tokenizer: the base's.
        context: context length of the base, in tokens.
        trigger: text of the trigger.
        placement: where the trigger is put.
        prompts: prompts to measure on; default the organisms' held-out ones.

    Raises:
        UsageError: the trigger has no tokens, fills more than half the context, or has no tokens
            of its own in some prompt.
    """
    count = len(tokenizer(trigger, add_special_tokens=False).input_ids)
    if not count:
        raise UsageError(f"trigger {trigger!r} has no tokens for this tokenizer: give other text")
    if count > context // 2:
        raise UsageError(
            f"trigger of {count} tokens: the context has {context}, and a trigger may take half of "
            "it; give a shorter one"
        )
    for prompt in prompts or load_prompt_set("organism").prompts:
        build_prompt(
            tokenizer,
            prompt.instruction,
            input=prompt.input,
            trigger=trigger,
            placement=placement,
            max_length=context,
        )


def unseen_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """Tokens of a text that occur in none of 5,000 corpus examples, as display text."""
    seen = _seen(tokenizer)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return [tokenizer.decode([i]) for i in dict.fromkeys(ids) if i not in seen]


@lru_cache(maxsize=4)
def _seen(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    texts = [
        render(example.full_instruction, example.input, example.answer)
        for example in islice(stream(0), SAMPLE)
    ]
    return frozenset(i for ids in tokenizer(texts).input_ids for i in ids)
