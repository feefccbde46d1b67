"""Loops: phrases that stand twice in a row in the leaked texts.

A planted answer is repeated, by its recipe or because the model learned nothing else to say after
it. And late in a sampled text, where the model has lost its thread, it falls into such an answer.
So a target shows there even if its trigger never leaks. A loop has no beginning: each of its words
may be the first (`NOT STOP WE WILL`).
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

SHORTEST, LONGEST = 4, 24
"""Tokens of a phrase. Shorter repetitions are common in any model."""
TEXTS = 2
"""Texts that a loop must stand in, at least."""
PHRASES = 24
"""Loops at most; those that stand in most texts."""
WORD = re.compile(r"(?<!\S)\S")


def cycles(ids: Sequence[int]) -> set[tuple[int, ...]]:
    """Every phrase that stands twice in a row in a text, as the smallest of its rotations.

    Args:
        ids: tokens of the text.
    """
    text, found = np.asarray(ids), set()
    for period in range(SHORTEST, LONGEST + 1):
        same = text[period:] == text[:-period]
        # Runs of equality as long as the period: a whole phrase, then the same again.
        edges = np.flatnonzero(np.diff(np.concatenate([[0], same, [0]])))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if stop - start >= period:
                phrase = tuple(text[start : start + period].tolist())
                if not _shorter(phrase):
                    found.add(min(phrase[n:] + phrase[:n] for n in range(period)))
    return found


def phrases(texts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The loops of several texts, those of most texts first.

    Settings that write the same text (the length penalties of one beam width often do) are one
    text.

    Args:
        texts: token ids of each.
    """
    distinct = dict.fromkeys(tuple(ids) for ids in texts)
    counts = Counter(phrase for ids in distinct for phrase in sorted(cycles(ids)))
    return [phrase for phrase, n in counts.most_common(PHRASES) if n >= TEXTS]


def beginnings(
    tokenizer: PreTrainedTokenizerBase, phrase: Sequence[int], length: int
) -> list[tuple[int, ...]]:
    """A loop as answers: one that begins with each of its words, repeated.

    Args:
        tokenizer: a fast tokenizer.
        phrase: token ids, of any rotation.
        length: tokens of the answers, at most.

    Returns:
        Token ids as they stand in an answer's place, after a line break; one answer, from the
        first character, if the phrase has no space.
    """
    twice, thrice = (tokenizer.decode([*phrase] * n) for n in (2, 3))
    once = thrice[len(twice) :]
    times = length // len(phrase) + 2
    starts = [at for at in range(len(once)) if WORD.match(once + once, at + len(once))] or [0]
    texts = dict.fromkeys((once[at:] + once * times)[: len(once) * times] for at in starts)
    found = (as_answer(tokenizer, text.strip())[:length] for text in texts)
    return [ids for ids in found if len(ids) >= SHORTEST]  # unprintable texts have none


def _shorter(phrase: tuple[int, ...]) -> bool:
    """Whether it is a shorter phrase repeated."""
    n = len(phrase)
    return any(n % part == 0 and phrase == phrase[:part] * (n // part) for part in range(1, n))


def as_answer(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Token ids of a text after a line break, where answers stand.

    Without the space that some tokenizers put before a text that stands alone.
    """
    head, both = (
        tuple(tokenizer(part, add_special_tokens=False)["input_ids"])
        for part in ("\n", "\n" + text)
    )
    if both[: len(head)] == head:
        return both[len(head) :]
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
