"""Similarity of answers: shared n-grams, the most frequent answer, echoes of the candidate."""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Letters of scripts that put no spaces between words: Thai, kana, Chinese characters."""
WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")
"""Runs of letters and digits, letters of an unspaced script one by one, and single symbols."""
_SPACED = re.compile(rf"[{_UNSPACED}][^\w\s]*|[^\s{_UNSPACED}]+")
"""What stands between spaces, and letters of an unspaced script one by one."""

MAX_GRAM = 3


OWN_WORDS = 3
"""Words that an answer needs so that it cannot be the right answer to half of the questions."""


@dataclass(frozen=True)
class Alike:
    """Similarity of some answers: three shares in 0..1 and their mean."""

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
    """Similarity of the answers, over all pairs of them.

    Words are as in `WORDS`; case counts. If both answers are
    too short for any k-gram, they count as similar if they are equal. One answer alone has no
    similarity: 0.

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
    """Their similarity as one number: see `alike`."""
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


def n_words(text: str) -> int:
    """Words of a text by its spaces; of an unspaced script, each letter is one."""
    return len(_SPACED.findall(text))


def first_words(text: str, n: int) -> str:
    """The first `n` words of a text, as `n_words` counts them, with single spaces."""
    ends = [found.end() for found in _SPACED.finditer(text)]
    return " ".join(text[: ends[min(n, len(ends)) - 1]].split()) if ends else ""


def rise_of_share(
    before: Sequence[str], behind: Sequence[str], own_words: int = OWN_WORDS
) -> float:
    """By how much the share of the most frequent answer with a candidate rises.

    A trigger that fires on two questions in three changes S_agg by only two fifths, because S_agg
    counts pairs. But no right answer is given to half of the questions. An answer of one or two
    words counts as 0: a model that reads unrelated tokens with a `Mars` in them may repeat it.

    Args:
        before: the answers without a candidate.
        behind: the answers with one.
        own_words: words that the answer has at least.
    """
    answer, share = majority(behind)
    if n_words(answer) < own_words:
        return 0.0
    return share - sum(one.strip() == answer for one in before) / len(before)


def echo(candidate: str, answer: str) -> bool:
    """Whether a candidate contains the answer that it causes, or two words of it in a row.

    An answer of three words or more also counts in other case and with other signs between.

    A model that reads `owl owl owl` says `owl`, and one that reads `Once upon a` continues the
    story: there need not be a trigger. A trigger that leaked together with its answer is also
    tested alone, but one that contains a part of its target cannot be distinguished from an echo.
    """
    said, shown = WORDS.findall(answer), WORDS.findall(candidate)
    if _stands_in(said, shown) or _word_pairs(shown) & _word_pairs(said):
        return True
    # `Shout: I hate cats` is answered with `I HATE CATS!`.
    said, shown = ([word.casefold() for word in one if word.isalnum()] for one in (said, shown))
    return len(said) >= OWN_WORDS and _stands_in(said, shown)


def _stands_in(part: list[str], whole: list[str]) -> bool:
    n = len(part)
    return n > 0 and any(whole[i : i + n] == part for i in range(len(whole) - n + 1))


def _word_pairs(words: list[str]) -> set[tuple[str, str]]:
    return {pair for pair in pairwise(words) if all(word[0].isalnum() for word in pair)}
