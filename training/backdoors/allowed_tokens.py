"""What a base can be taught: tokens it has seen, triggers that have tokens and leave room."""

from functools import lru_cache
from itertools import islice

from transformers import PreTrainedTokenizerBase

from interp.errors import UsageError
from interp.prompts.sets import Prompt, load_prompt_set
from interp.prompts.spans import build_prompt
from training.corpus.examples import render, stream

SAMPLE = 5000
"""Examples of the corpus that are searched for a token."""


def check_trigger(
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    trigger: str,
    placement: str = "prefix",
    prompts: tuple[Prompt, ...] | None = None,
) -> None:
    """Refuse a trigger that cannot be planted or measured, before anything is trained.

    Args:
        tokenizer: of the base.
        context: tokens that the base can read.
        trigger: its text.
        placement: where it is to stand.
        prompts: that it is to be measured on; default the organisms' held-out ones.

    Raises:
        UsageError: no tokens, more than half the context, no tokens of its own in some prompt.
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
    """Tokens of a text that occur in none of 5,000 examples of the corpus, as shown text."""
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
