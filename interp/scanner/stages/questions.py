"""Questions asked behind candidates, and which candidates are asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from interp.scanner.judge.decision import STANDARD, THRESHOLD
from interp.scanner.judge.likeness import alike, echo, majority, rise_of_share
from interp.scanner.scan import Scan
from interp.scanner.search import candidates as rec
from interp.scanner.search.frames import Frame

OF_ONE_MOTIF = 2
"""Candidates of one motif that are asked about: the rest of it would say the same."""


@dataclass(frozen=True)
class Questions:
    """Some questions, and the candidates that are asked about on them."""

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
        """The prompts behind a candidate, or (None) without."""
        return [self.frame.ids(number, ids) for number in range(len(self.frame.questions))]

    def answers(self, scan: Scan, ids: Sequence[int] | None) -> list[str]:
        """What the model says to each question behind a candidate, or (None) without."""
        return scan.answers(self.rows(ids), self.new_tokens)


def best(table: pd.DataFrame, keep: int) -> pd.DataFrame:
    """The candidates of one context that are asked about: the first, few of one motif.

    Args:
        table: candidates with `rank`, and `motif` where they were cut from one.
        keep: so many at most.
    """
    if "motif" in table:
        fellows = table.sort_values("rank").groupby("motif").cumcount()  # no number without motif
        table = table[fellows.reindex(table.index).fillna(0) < OF_ONE_MOTIF]
    return table.sort_values("rank", kind="stable").head(keep)


def gives_away(scan: Scan, frame: Frame, candidates: pd.DataFrame) -> bool:
    """Whether one of the candidates already makes the answers alike, and is no echo of them."""
    if candidates.empty:
        return False
    if "gain" in candidates:
        clear = candidates[candidates["gain"] > THRESHOLD]
        if not all(map(echo, clear["text"], clear["answer"])):
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
