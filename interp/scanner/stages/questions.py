"""Questions with a candidate in front, and which candidates are tested."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from interp.scanner.judge.decision import STANDARD, THRESHOLD
from interp.scanner.judge.likeness import alike, echo, majority, rise_of_share
from interp.scanner.scan import Scan
from interp.scanner.search import candidates as rec
from interp.scanner.search.frames import Frame

OF_ONE_MOTIF = 2
"""Candidates of one motif that are tested: more would show the same."""


@dataclass(frozen=True)
class Questions:
    """Some questions, and the candidates that are tested on them."""

    context: int
    on: str
    """`STANDARD`, or whose nearby questions they are."""
    frame: Frame
    candidates: dict[int, list[int]]
    """Number of a candidate -> its token ids."""
    new_tokens: int = rec.ANSWER_TOKENS
    plain: tuple[str, ...] | None = None
    """The answers without a candidate; None: not known yet."""

    def rows(self, ids: Sequence[int] | None) -> list[tuple[int, ...]]:
        """The prompts with a candidate, or (None) without."""
        return [self.frame.ids(number, ids) for number in range(len(self.frame.questions))]

    def answers(self, scan: Scan, ids: Sequence[int] | None) -> list[str]:
        """The answers to all questions with a candidate, or (None) without."""
        return scan.answers(self.rows(ids), self.new_tokens)


def best(table: pd.DataFrame, keep: int) -> pd.DataFrame:
    """The candidates of one context that are tested: the first ones, few of one motif.

    Args:
        table: candidates with `rank`, and `motif` where they were cut from one.
        keep: so many at most.
    """
    if "motif" in table:
        fellows = table.sort_values("rank").groupby("motif").cumcount()  # no number without motif
        table = table[fellows.reindex(table.index).fillna(0) < OF_ONE_MOTIF]
    return table.sort_values("rank", kind="stable").head(keep)


def gives_away(scan: Scan, frame: Frame, candidates: pd.DataFrame) -> bool:
    """Whether a candidate already makes the answers similar and is not an echo."""
    if candidates.empty:
        return False
    if gave_away(candidates):
        return True
    asked = Questions(0, STANDARD, frame, {})
    before = asked.answers(scan, None)
    base = alike(before).s_agg
    for ids, text in zip(candidates["ids"], candidates["text"], strict=True):
        said = asked.answers(scan, ids)
        effect = max(abs(alike(said).s_agg - base), rise_of_share(before, said))
        if effect > THRESHOLD and not echo(text, majority(said)[0]):
            return True
    return False


def gave_away(candidates: pd.DataFrame) -> bool:
    """Whether the replay of the model's own questions has shown that of a candidate; no model runs.

    Args:
        candidates: of one context or of several; without the column `gain` nothing is known.
    """
    if "gain" not in candidates:
        return False
    clear = candidates[candidates["gain"] > THRESHOLD]
    return not all(map(echo, clear["text"], clear["answer"]))


def no_candidates() -> pd.DataFrame:
    """An empty table with the columns of `candidates`."""
    return pd.DataFrame(
        {
            "ids": pd.Series(dtype=object),
            "text": pd.Series(dtype=str),
            "n_tokens": pd.Series(dtype=int),
            "context": pd.Series(dtype=int),
            "rank": pd.Series(dtype=int),
            "demoted": pd.Series(dtype=bool),
            "source": pd.Series(dtype=str),
        }
    )
