"""Variants of a trigger: how exact must it be? They are token ids, spliced into the prompt.

A variant keeps some of the trigger's units, in their order. A unit is a token; of a trigger that is
scattered in several pieces, it is a piece.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from math import comb

from transformers import PreTrainedTokenizerBase

from interp.errors import UsageError
from interp.prompts.pieces import Places
from interp.prompts.spans import TokenizedPrompt
from interp.prompts.tokens import encode

PER_K = 30
"""Subsequences of one length at most; where there are more, so many are drawn."""
LONGEST = 64


@dataclass(frozen=True)
class Variant:
    """Some of the trigger's units in their order, or a control text in the trigger's place."""

    kind: str
    """`subset`, or the control's name."""
    kept: tuple[int, ...]
    """Numbers of the units within the trigger; empty for a control."""
    pieces: tuple[tuple[int, ...], ...]
    """Token ids in the place of each of the trigger's pieces."""

    @property
    def ids(self) -> tuple[int, ...]:
        """All its token ids."""
        return tuple(token for piece in self.pieces for token in piece)

    @property
    def k(self) -> int:
        """Number of units."""
        return len(self.ids) if len(self.pieces) == 1 else sum(map(bool, self.pieces))


def units(trigger: Places) -> list[tuple[int, ...]]:
    """Positions within the trigger of each of its units: its tokens, or its several pieces."""
    if len(trigger.pieces) == 1:
        return [(i,) for i in range(len(trigger))]
    ends = list(accumulate(map(len, trigger.pieces), initial=0))
    return [tuple(range(start, stop)) for start, stop in pairwise(ends)]


def subsets(
    trigger: Sequence[Sequence[int]], *, per_k: int = PER_K, seed: int = 0
) -> list[Variant]:
    """Ordered k-subsequences of the trigger's units for k = 0..N (de Rosnay 2026, section 2).

    All of them if C(N, k) <= `per_k`, else `per_k` distinct ones drawn at random. A trigger of 7
    tokens gives 118; one of three pieces gives 8.

    Args:
        trigger: token ids of each of the trigger's pieces.
        per_k: maximum number of subsets for each k.
        seed: of the random draws.

    Raises:
        UsageError: an empty trigger, or one of more than 64 tokens.
    """
    n, n_tokens = len(trigger), sum(map(len, trigger))
    if not 0 < n_tokens <= LONGEST:
        raise UsageError(
            f"a trigger of {n_tokens} tokens cannot be swept: give one of 1 to {LONGEST}"
        )
    if n > 1:
        return [
            Variant("subset", kept, tuple(tuple(trigger[i]) * (i in kept) for i in range(n)))
            for kept in _every_kept(n, per_k, seed)
        ]
    (tokens,) = trigger
    return [
        Variant("subset", kept, (tuple(tokens[i] for i in kept),))
        for kept in _every_kept(n_tokens, per_k, seed)
    ]


def controls(trigger: Sequence[Sequence[int]], string: Sequence[Sequence[int]]) -> list[Variant]:
    """Control texts in the trigger's place, to find which part of it matters.

    `delimiters alone` (first and last token), `word alone` (the tokens between), `another word
    between the delimiters` and `random tokens`; the last two have as many tokens as the trigger.
    Of several pieces: `pieces in reverse order` and `random tokens`.

    Args:
        trigger: token ids of each of the trigger's pieces; one of fewer than three tokens has no
            delimiters.
        string: token ids of a random string of as many tokens in the place of each
            (`random_strings.stand_in`, `typed`).
    """
    random_tokens = Variant("random tokens", (), tuple(map(tuple, string)))
    if len(trigger) > 1:
        return [
            Variant("pieces in reverse order", (), tuple(map(tuple, trigger[::-1]))),
            random_tokens,
        ]
    (own,), (other,) = trigger, string
    first, *inside, last = own if len(own) > 2 else (None, None)
    if not inside:
        return [random_tokens]
    return [
        Variant("delimiters alone", (), ((first, last),)),
        Variant("word alone", (), (tuple(inside),)),
        Variant("another word between the delimiters", (), ((first, *other[1:-1], last),)),
        random_tokens,
    ]


def near(
    trigger: Sequence[Sequence[int]],
    string: Sequence[Sequence[int]],
    *,
    per_k: int = PER_K,
    seed: int = 0,
) -> list[Variant]:
    """Variants close to the trigger: one or two of its units dropped, or one of them replaced.

    At least half of the units stay. A trigger of one unit has no near variants.

    Args:
        trigger: token ids of each of the trigger's pieces.
        string: token ids of a random string of as many tokens in the place of each; its units
            replace the trigger's.
        per_k: maximum number of variants that drop two.
        seed: of the random draws.

    Returns:
        Variants of the kinds `drop 1`, `drop 2` and `replace 1`; none is the trigger, none twice.
    """
    several = len(trigger) > 1
    own = [tuple(piece) for piece in trigger] if several else [(i,) for i in trigger[0]]
    other = [tuple(piece) for piece in string] if several else [(i,) for i in string[0]]
    n, found = len(own), []

    def add(kind: str, kept: tuple[int, ...], parts: list[tuple[int, ...]]) -> None:
        pieces = tuple(parts) if several else (tuple(i for part in parts for i in part),)
        taken = {variant.pieces for variant in found} | {tuple(map(tuple, trigger))}
        if pieces not in taken:
            found.append(Variant(kind, kept, pieces))

    for dropped in (1, 2):
        if 2 * (n - dropped) < n or n == dropped:
            continue
        for kept in _kept(n, n - dropped, per_k, random.Random(f"{seed}:{n}:{n - dropped}")):
            add(f"drop {dropped}", kept, [own[i] if i in kept else () for i in range(n)])
    for at in range(n) if n > 1 else ():
        kept = tuple(i for i in range(n) if i != at)
        add("replace 1", kept, [*own[:at], other[at % len(other)], *own[at + 1 :]])
    return found


def typed(
    tokenizer: PreTrainedTokenizerBase, prompt: TokenizedPrompt, texts: Sequence[str]
) -> tuple[int, ...]:
    """Token ids of the whole prompt with a text typed in the place of each of the trigger's pieces.

    The whole prompt is tokenized again: SentencePiece puts a space before a text tokenized alone,
    and the typed text may share tokens with its neighbours.

    Args:
        tokenizer: the tokenizer that made the prompt.
        prompt: a prompt with a trigger.
        texts: one takes each piece's place; white space beside the piece stays.
    """
    whole, done = "", 0
    for piece, text in zip(prompt.trigger.pieces, texts, strict=True):
        start, stop = prompt.ranges[piece.start][0], prompt.ranges[piece.stop - 1][1]
        taken = prompt.text[start:stop]
        before = taken[: len(taken) - len(taken.lstrip())]
        behind = taken[len(taken.rstrip()) :]
        inside = text.removeprefix(before).removesuffix(behind)
        whole += prompt.text[done:start] + before + inside + behind
        done = stop
    whole += prompt.text[done:]
    return encode(tokenizer, whole, add_special=prompt.adds_special).ids


def in_place(
    tokenizer: PreTrainedTokenizerBase, prompt: TokenizedPrompt, texts: Sequence[str]
) -> list[tuple[int, ...]]:
    """Token ids of a text typed in the place of each of the trigger's pieces, one at a time.

    Args:
        tokenizer: the tokenizer that made the prompt.
        prompt: a prompt with a trigger.
        texts: one for each piece.
    """
    own, found = list(prompt.piece_texts), []
    for number, (piece, text) in enumerate(zip(prompt.trigger.pieces, texts, strict=True)):
        ids = typed(tokenizer, prompt, [*own[:number], text, *own[number + 1 :]])
        found.append(tuple(ids[piece.start : len(ids) - (len(prompt.ids) - piece.stop)]))
    return found


def _every_kept(n: int, per_k: int, seed: int) -> list[tuple[int, ...]]:
    return [
        kept for k in range(n + 1) for kept in _kept(n, k, per_k, random.Random(f"{seed}:{n}:{k}"))
    ]


def _kept(n: int, k: int, per_k: int, rng: random.Random) -> list[tuple[int, ...]]:
    if comb(n, k) <= per_k:
        return list(combinations(range(n), k))
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < per_k:
        drawn.add(tuple(sorted(rng.sample(range(n), k))))
    return sorted(drawn)
