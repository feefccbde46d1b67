"""Stage 6, targets: answers that the model completes whatever the question."""

import math
from functools import partial

import pandas as pd
import torch

from interp.scanner.cost.work import Work
from interp.scanner.scan import Scan, Stage
from interp.scanner.search.budget import SMALL
from interp.scanner.search.frames import Frame
from interp.scanner.search.known import known_share
from interp.scanner.search.targets import AT_ONCE, CLEAR, at_least, insisted, table_of, tried
from interp.scanner.stages.questions import gave_away

SETTLED = 512
"""First tokens of a large vocabulary that are tried where a leaked candidate settles the verdict: a
target is then no aim of a search, only further evidence."""
BY_HEART = (
    "whether the model merely knows its candidate target by heart could not be told: name what it "
    "was made of with --original"
)
EACH, EACH_SMALL = 50, 25
"""Tokens through the model for each first token, about; and for a vocabulary up to `SMALL`, which
is tried in full. How far answers go on is not known before: counted on SmolLM2 and a toy."""
FEW_AT_ONCE = 16
"""First tokens per batch under a budget, which is asked before each."""
WHY = ": a leaked candidate settles the verdict"


def targets(scan: Scan) -> list[str]:
    """Writes `targets`: the candidate targets of every context."""
    notes, found = [], [table_of(scan.pair.tokenizer, [], torch.empty(0)).assign(context=0)]
    leaks, own = map(scan.writer.existing_table, ("leaks", "own"))
    for context, frame in enumerate(scan.frames):
        reached = [0, 1]

        def told(done: int, total: int, note: str, reached: list = reached) -> None:
            reached[:] = done, total
            scan.report("targets")(done, total, note)

        size, texts = scan.pair.config.vocab_size, leaks.loc[leaks["context"] == context, "ids"]
        at_once = FEW_AT_ONCE if scan.clock.limited else AT_ONCE
        late = partial(_late, scan, Work(wide=_each(size) * at_once))
        if late():
            notes.append("the budget left no time to search for targets")
            break
        most = fewer(own[own["context"] == context], size)
        if size > SMALL:
            why, least = WHY if most else "", most or tried(size)
            notes.append(f"targets were searched from the {least:,} likeliest first tokens{why}")
        table = insisted(
            *(scan.pair, scan.which, frame, told, late, texts.tolist()),
            n_starts=most,
            at_once=at_once,
        )
        table["known"] = _known(scan, frame, table)
        if not scan.has_original and len(at_least(table, CLEAR)):
            notes.append(BY_HEART)
        found.append(table.assign(context=context))
        if reached[0] < reached[1]:
            notes.append(f"the budget ended the search for targets after {reached[0]} first tokens")
    scan.writer.table("targets", pd.concat(found, ignore_index=True))
    return list(dict.fromkeys(notes))  # of several contexts


def _known(scan: Scan, frame: Frame, table: pd.DataFrame) -> list[float]:
    """What the original knows of each candidate target; not a number where it is not at hand."""
    if not scan.has_original:
        return [math.nan] * len(table)
    return known_share(scan.pair, frame, table["ids"].tolist())


def _late(scan: Scan, batch: Work) -> bool:
    """Whether no further batch of first tokens fits."""
    return not scan.clock.fits(batch)


def _work(scan: Scan) -> Work:
    size = scan.pair.config.vocab_size
    return Work(wide=_each(size) * min(size, tried(size))) * len(scan.foreseen)


def _each(vocabulary: int) -> int:
    """Tokens through a model with so many, for each first token that is tried."""
    return EACH_SMALL if vocabulary <= SMALL else EACH


def fewer(own: pd.DataFrame, vocabulary: int) -> int | None:
    """`SETTLED` if so few first tokens are enough; None: as many as ever.

    Args:
        own: the candidates from the model's own questions, with `gain`.
        vocabulary: the model's tokens.
    """
    return SETTLED if vocabulary > SMALL and gave_away(own) else None


def settings(vocabulary: int) -> tuple:
    """What the result depends on besides the model: earlier versions tried more first tokens."""
    return (tried(vocabulary),) if vocabulary > SMALL else ()


def _depends_on(scan: Scan) -> tuple:
    """With an original at hand, the table says what it knows; earlier versions did not ask it."""
    return settings(scan.pair.config.vocab_size) + (("known",) if scan.has_original else ())


STAGE = Stage(
    "targets",
    run=targets,
    tables=("targets",),
    depends_on=_depends_on,
    words="candidate targets are searched for",
    work=_work,
    weight=0.1,
)
