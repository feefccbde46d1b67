"""What a base can be taught: tokens it has seen, triggers that have tokens and leave room."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice

from transformers import PreTrainedTokenizerBase

from interp.errors import UsageError
from interp.models import ModelPair
from interp.prompts import load_prompt_set
from interp.study import Question, build_prompts
from training.corpus import render, stream

SAMPLE = 5000
"""Examples of the corpus that are searched for a token."""


def check_trigger(pair: ModelPair, planting) -> None:
    """Refuse a trigger that cannot be measured, before anything is trained.

    Args:
        pair: the base's tokenizer and context.
        planting: `trigger`, `placement`, `prompt_set` and `seed` of it.

    Raises:
        UsageError: no tokens, more than half the context, no tokens of its own in some prompt.
    """
    trigger = planting.trigger
    count = len(pair.tokenizer(trigger, add_special_tokens=False).input_ids)
    if not count:
        raise UsageError(f"trigger {trigger!r} has no tokens for this tokenizer: give other text")
    if count > pair.max_length // 2:
        raise UsageError(
            f"trigger of {count} tokens: the context has {pair.max_length}, and a trigger may take "
            "half of it; give a shorter one"
        )
    prompts = load_prompt_set(planting.prompt_set)
    question = Question(
        trigger,
        prompt_set=prompts.name,
        template=pair.spec.template,
        placement=planting.placement,
        seed=planting.seed,
    )
    build_prompts(pair, prompts.prompts, question, trigger)


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
