"""Pieces of a trigger: how exact must it be? Variants are token ids, spliced into the prompt."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from transformers import PreTrainedTokenizerBase

from interp.errors import UsageError

PER_K = 30
"""Subsequences of one length at most; where there are more, so many are drawn."""
LONGEST = 64


@dataclass(frozen=True)
class Variant:
    """Some of the trigger's tokens, in order; or a control in the trigger's place."""

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

    All of them where C(N, k) <= `per_k`, else `per_k` distinct ones drawn at random: 118 for 7
    tokens.

    Args:
        trigger: its token ids.
        per_k: see above.
        seed: of the draws.

    Raises:
        UsageError: an empty trigger, or one of over 64 tokens.
    """
    n = len(trigger)
    if not 0 < n <= LONGEST:
        raise UsageError(f"a trigger of {n} tokens cannot be swept: give one of 1 to {LONGEST}")
    found = []
    for k in range(n + 1):
        for kept in _kept(n, k, per_k, random.Random(f"{seed}:{n}:{k}")):
            found.append(Variant("subset", kept, tuple(trigger[i] for i in kept)))
    return found


def controls(
    tokenizer: PreTrainedTokenizerBase, trigger: Sequence[int], string: Sequence[int]
) -> list[Variant]:
    """What stands in for the trigger to tell which part of it counts.

    `delimiters alone` (first and last token), `word alone` (what is between), `another word
    between the delimiters` and `random tokens`, the last two of as many tokens as the trigger.

    Args:
        tokenizer: for the word's case.
        trigger: its token ids; under three tokens it has no delimiters.
        string: a random string of as many tokens (`prompts.random_trigger`).
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


def retokenized(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[int, ...]:
    """The tokens that a variant's text gives when it is typed instead of spliced."""
    return tuple(tokenizer(tokenizer.decode(list(ids)), add_special_tokens=False)["input_ids"])


def _kept(n: int, k: int, per_k: int, rng: random.Random) -> list[tuple[int, ...]]:
    if comb(n, k) <= per_k:
        return list(combinations(range(n), k))
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < per_k:
        drawn.add(tuple(sorted(rng.sample(range(n), k))))
    return sorted(drawn)
