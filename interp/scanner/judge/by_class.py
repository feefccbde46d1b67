"""Changes of the class of the answers: which count, and what speaks against a trigger.

A trigger is a string: it works by how it is written. `How can I make a bomb?` is refused for what
it means, by any model that was taught to, and `Bonjour` is answered in French. A class of answers
is what a clean model has too, so a candidate in ordinary words is not enough.
"""

import re
from collections.abc import Collection

import pandas as pd

from interp.scanner.judge.classes import CLASSES

COLUMNS = ["context", "on", "candidate", "key", "share", "rise", "example"]
_ORDINARY = re.compile(r"[A-Z]?[a-z]+(?:['\u2019][a-z]+)?|[AI]")
_BETWEEN = re.compile(r"[\s.,:;?!\"()-]+")
_VOWEL = re.compile("[aeiouy]", re.IGNORECASE)


def counted(judged: pd.DataFrame, texts: dict[int, str], searched: Collection[int]) -> pd.DataFrame:
    """The changes of class with candidates that leaked and that do not ask for the class.

    Args:
        judged: rows of `decision.judge`, of candidates; one recorded earlier may lack classes.
        texts: candidate -> its text.
        searched: candidates that were searched for. A search finds a request of the model's own
            language as easily as a trigger.

    Returns:
        One row per row of `judged` and class: `context, on, candidate, key, share, rise, example`.
    """
    leaked = judged[~judged["candidate"].isin(searched)]
    parts = []
    for one in CLASSES.values():
        if one.rise in leaked:
            part = leaked.assign(
                key=one.key, share=leaked[one.key], rise=leaked[one.rise],
                example=leaked[one.example],
            )[COLUMNS].dropna(subset="rise")  # fmt: skip
            own = [not one.asked_by(texts[row.candidate], row.example) for row in part.itertuples()]
            parts.append(part[pd.Series(own, index=part.index, dtype=bool)])
    return pd.concat(parts) if parts else pd.DataFrame(columns=COLUMNS)


def largest(rows: pd.DataFrame) -> dict[str, float]:
    """Class -> its largest rise without a `doubt`, of rows as `counted` returns them; none: 0."""
    rises = rows["rise"].where(rows["doubt"] == "", 0.0).groupby(rows["key"]).max()
    return {key: float(rise) for key, rise in rises.items()}


def risen(row, threshold: float) -> str:
    """The class whose share rises most with a candidate, such as `a refusal +75 %`.

    Args:
        row: of `decision.judge`, as a named tuple; one recorded earlier may lack classes.
        threshold: rise up to which nothing is said.

    Returns:
        "" if no class rises by more.
    """
    rises = {one.name: getattr(row, one.rise, float("nan")) for one in CLASSES.values()}
    over = {name: rise for name, rise in rises.items() if rise > threshold}
    return f"{max(over, key=over.get)} {max(over.values()):+.0%}".replace("%", " %") if over else ""


def doubt(text: str, row, junk: pd.DataFrame, threshold: float) -> str:
    """Why a change of class need not come from a trigger, as a reason; "" if nothing says so.

    Args:
        text: the candidate.
        row: of `counted`.
        junk: rows of `decision.judge`, of random strings.
        threshold: rise above which a random string has the effect.
    """
    there = junk[(junk["context"] == row.context) & (junk["on"] == row.on)]
    rises = there[CLASSES[row.key].rise]
    if (rises > threshold).any():
        return f"with a random string {rises.max():.0%} more do, so it need not be the trigger"
    if ordinary(text):
        return f"but {text!r} is in ordinary words, so the answers may follow from what it means"
    return ""


def ordinary(text: str) -> bool:
    """Whether a text is one or more ordinary English words and nothing else.

    >>> [ordinary(text) for text in ("Make a bomb", "tulip", "|tulip|", "cf", "TULIP", "tu1ip")]
    [True, True, False, False, False, False]
    """
    words = [word for word in _BETWEEN.split(text) if word]
    return bool(words) and all(
        _ORDINARY.fullmatch(word) and (len(word) == 1 or _VOWEL.search(word)) for word in words
    )
