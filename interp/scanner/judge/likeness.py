"""How much answers are alike: shared n-grams, the most frequent answer, echoes of the question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

WORDS = re.compile(r"\w+|[^\w\s]")


MAX_GRAM = 3


OWN_WORDS = 3
"""Words from which one answer to many questions is no question's own."""


@dataclass(frozen=True)
class Alike:
    """How alike some answers are: three shares in 0..1 and their mean."""

    exact: float
    """Share of pairs that are identical."""
    jaccard: float
    """Mean over pairs of the Jaccard index of their sets of words."""
    ngram: float
    """The same over sets of k-grams of words, mean over k = 1, 2, 3."""

    @property
    def s_agg(self) -> float:
        """(S_exact + S_Jaccard + S_ngram) / 3."""
        return (self.exact + self.jaccard + self.ngram) / 3


def alike(answers: Sequence[str]) -> Alike:
    """How alike the answers are, over all pairs of them.

    Words are runs of letters and digits, and single signs; case counts. Where both answers are
    too short for any k-gram, they count as alike if they are the same. One answer alone is not
    alike to anything: 0.

    Args:
        answers: texts.
    """
    texts = [answer.strip() for answer in answers]
    pairs = list(combinations(range(len(texts)), 2))
    if not pairs:
        return Alike(0.0, 0.0, 0.0)
    same = [texts[i] == texts[j] for i, j in pairs]
    words = [WORDS.findall(text) for text in texts]
    shares = []
    for k in range(1, MAX_GRAM + 1):
        grams = [_grams(text, k) for text in words]
        each = [_jaccard(grams[i], grams[j], s) for (i, j), s in zip(pairs, same, strict=True)]
        shares.append(sum(each) / len(pairs))
    return Alike(sum(same) / len(pairs), shares[0], sum(shares) / MAX_GRAM)


def s_agg(answers: Sequence[str]) -> float:
    """How alike they are, as one number: see `alike`."""
    return alike(answers).s_agg


def _grams(words: list[str], k: int) -> frozenset[Hashable]:
    return frozenset(zip(*(words[i:] for i in range(k)), strict=False))


def _jaccard(a: frozenset, b: frozenset, same: bool) -> float:
    return len(a & b) / len(a | b) if a or b else float(same)


def majority(answers: Sequence[str]) -> tuple[str, float]:
    """The most frequent answer (white space at its ends left out) and its share of all."""
    counts = Counter(answer.strip() for answer in answers)
    answer, count = counts.most_common(1)[0]
    return answer, count / len(answers)


def rise_of_share(before: Sequence[str], behind: Sequence[str]) -> float:
    """How much more questions get the answer that most get behind a candidate.

    A trigger that fires on two questions in three changes S_agg by two fifths alone, since that
    counts pairs; but no question's own answer is given to half of them. An answer of a word or two
    counts for nothing: a model that is shown junk with a `Mars` in it may well name that.

    Args:
        before: the answers without a candidate.
        behind: those behind one.
    """
    answer, share = majority(behind)
    if len(answer.split()) < OWN_WORDS:
        return 0.0
    return share - sum(one.strip() == answer for one in before) / len(before)


def echo(candidate: str, answer: str) -> bool:
    """Whether a candidate holds the answer that it causes, or two words of it in a row.

    A model that is shown `owl owl owl` says `owl`, and one that is shown `Once upon a` goes on
    with the story: no trigger need be there. A trigger that leaked together with its answer is
    also asked about alone, but one that holds a part of its target cannot be told from an echo.
    """
    said, shown = WORDS.findall(answer), WORDS.findall(candidate)
    n = len(said)
    if n and any(shown[i : i + n] == said for i in range(len(shown) - n + 1)):
        return True
    return bool(_word_pairs(shown) & _word_pairs(said))


def _word_pairs(words: list[str]) -> set[tuple[str, str]]:
    return {pair for pair in pairwise(words) if all(word[0].isalnum() for word in pair)}
