"""Variants of a trigger: how exact must it be? They are token ids, spliced into the prompt."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from transformers import PreTrainedTokenizerBase

from interp.errors import UsageError
from interp.prompts.spans import TokenizedPrompt
from interp.prompts.tokens import encode

PER_K = 30
"""Subsequences of one length at most; where there are more, so many are drawn."""
LONGEST = 64


@dataclass(frozen=True)
class Variant:
    """Some of the trigger's tokens in their order, or a control text in the trigger's place."""

    kind: str
    """`subset`, or the control's name."""
    kept: tuple[int, ...]
    """Positions within the trigger; empty for a control."""
    ids: tuple[int, ...]

    @property
    def k(self) -> int:
        """Number of tokens."""
        return len(self.ids)


def subsets(trigger: Sequence[int], *, per_k: int = PER_K, seed: int = 0) -> list[Variant]:
    """Ordered k-subsequences of the trigger for k = 0..N (de Rosnay 2026, section 2).

    All of them if C(N, k) <= `per_k`, else `per_k` distinct ones drawn at random. A trigger of 7
    tokens gives 118.

    Args:
        trigger: token ids of the trigger.
        per_k: maximum number of subsets for each k.
        seed: of the random draws.

    Raises:
        UsageError: an empty trigger, or one of more than 64 tokens.
    """
    n = len(trigger)
    if not 0 < n <= LONGEST:
        raise UsageError(f"a trigger of {n} tokens cannot be swept: give one of 1 to {LONGEST}")
    found = []
    for k in range(n + 1):
        for kept in _kept(n, k, per_k, random.Random(f"{seed}:{n}:{k}")):
            found.append(Variant("subset", kept, tuple(trigger[i] for i in kept)))
    return found


def controls(trigger: Sequence[int], string: Sequence[int]) -> list[Variant]:
    """Control texts in the trigger's place, to find which part of it matters.

    `delimiters alone` (first and last token), `word alone` (the tokens between), `another word
    between the delimiters` and `random tokens`; the last two have as many tokens as the trigger.

    Args:
        trigger: token ids of the trigger; with fewer than three tokens it has no delimiters.
        string: token ids of a random string of as many tokens in its place
            (`random_strings.random_trigger`, `typed`).
    """
    first, *inside, last = trigger if len(trigger) > 2 else (None, None)
    found = [Variant("random tokens", (), tuple(string))]
    if inside:
        found = [
            Variant("delimiters alone", (), (first, last)),
            Variant("word alone", (), tuple(inside)),
            Variant("another word between the delimiters", (), (first, *string[1:-1], last)),
            *found,
        ]
    return found


def typed(
    tokenizer: PreTrainedTokenizerBase, prompt: TokenizedPrompt, text: str
) -> tuple[int, ...]:
    """Token ids of the whole prompt with a text typed in the trigger's place.

    The whole prompt is tokenized again: SentencePiece puts a space before a text tokenized alone,
    and the typed text may share tokens with its neighbours.

    Args:
        tokenizer: the tokenizer that made the prompt.
        prompt: a prompt with a trigger.
        text: takes the trigger's place; white space beside the trigger stays.
    """
    start, stop = (prompt.ranges[i] for i in (prompt.trigger.start, prompt.trigger.stop - 1))
    taken = prompt.text[start[0] : stop[1]]
    before = taken[: len(taken) - len(taken.lstrip())]
    behind = taken[len(taken.rstrip()) :]
    inside = text.removeprefix(before).removesuffix(behind)
    whole = prompt.text[: start[0]] + before + inside + behind + prompt.text[stop[1] :]
    return encode(tokenizer, whole, add_special=prompt.adds_special).ids


def in_place(prompt: TokenizedPrompt, ids: Sequence[int]) -> tuple[int, ...]:
    """The token ids of another whole prompt at the place of this prompt's trigger."""
    return tuple(ids[prompt.trigger.start : len(ids) - (len(prompt.ids) - prompt.trigger.stop)])


def _kept(n: int, k: int, per_k: int, rng: random.Random) -> list[tuple[int, ...]]:
    if comb(n, k) <= per_k:
        return list(combinations(range(n), k))
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < per_k:
        drawn.add(tuple(sorted(rng.sample(range(n), k))))
    return sorted(drawn)
