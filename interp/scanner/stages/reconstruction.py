"""Stage 4, reconstruction: candidates made of the motifs, ranked by the reconstruction loss."""

import math

import pandas as pd

from interp.prompts.sets import load_prompt_set
from interp.scanner.cost.shares import most_that
from interp.scanner.cost.work import Work
from interp.scanner.scan import Scan, Stage, asking, prompt_tokens
from interp.scanner.search import candidates as rec
from interp.scanner.search.frames import Frame
from interp.scanner.search.losses import CONSTANTS, baseline, candidate_losses
from interp.scanner.stages.questions import no_candidates

BATCH, SMALL_BATCH = 60, 10
"""Candidates per batch of losses that is written to disk, without and with a budget."""
USUAL = 100
"""Candidates that the motifs of the recorded scans yielded, about (13 to 196)."""
LEAST = 4
"""Candidates whose answers are looked at under any budget."""
N_LENGTHS = len(rec.LENGTHS) + 1
"""Lengths of the candidates, which batches are made of: n-grams, and a motif as a whole."""


def reconstruction(scan: Scan) -> list[str]:
    """Writes `candidates`: every candidate with its loss, parts, rank and (for the top) answer."""
    table, notes, ranked = scan.writer.existing_table("motifs"), [], []
    for context, frame in enumerate(scan.frames):
        own = table[table["context"] == context].reset_index(drop=True)
        place, limit = scan.places[context], scan.plan.limit
        candidates = rec.motif_candidates(place.tokenizer, place.template, own, limit=limit)
        if candidates.empty:
            notes.append(f"in {scan.name_of(context)} no motif yielded a candidate")
            continue
        losses, asked = _losses(scan, context, frame, candidates)
        if asked < len(candidates):
            notes.append(
                f"the budget ended the reconstruction losses after {asked} of {len(candidates)}"
            )
        ranked.append(_ranked(scan, frame, candidates.head(asked), losses).assign(context=context))
    out = pd.concat(ranked, ignore_index=True) if ranked else no_candidates()
    scan.writer.whole("candidates", out)
    for number in scan.writer.existing_parts("losses"):
        scan.writer.drop_part("losses", number)
    return notes


def _losses(
    scan: Scan, context: int, frame: Frame, candidates: pd.DataFrame
) -> tuple[pd.DataFrame, int]:
    """Losses of the candidates, batch by batch on disk, and how many were reached."""
    kept, parts = scan.writer.existing_parts("losses"), []
    said = baseline(scan.pair, scan.which, frame, scan.asked(frame), CONSTANTS.steps)
    size = SMALL_BATCH if scan.clock.limited else BATCH
    each, after = losses_of(scan, frame, size), scan.clock.seconds(_after(scan, frame, LEAST))
    for start in range(0, len(candidates), size):
        number = context * 1000 + start // size
        if number not in kept:
            if start and not scan.clock.fits(each, after):
                return pd.concat(parts), start
            part = candidate_losses(
                scan.pair,
                scan.which,
                frame,
                candidates["ids"].iloc[start : start + size].tolist(),
                said,
                on_progress=scan.report(f"candidates {start} to {len(candidates)}"),
            )
            kept[number] = part.assign(candidate=part["candidate"] + start)
            scan.writer.part("losses", number, kept[number])
        parts.append(kept[number])
    return pd.concat(parts), len(candidates)


def _ranked(
    scan: Scan, frame: Frame, candidates: pd.DataFrame, losses: pd.DataFrame
) -> pd.DataFrame:
    asked, pair = scan.asked(frame), scan.pair
    table = rec.ranked(candidates, losses, scan.weights)
    most = most_that(
        lambda n: scan.clock.fits(_after(scan, frame, n)), rec.LOOKED_AT, min(LEAST, rec.LOOKED_AT)
    )
    told = scan.report("candidates' own answers")
    table = rec.demote_parts_of_targets(
        pair, scan.which, frame, table, asked, most=most, on_progress=told
    )
    said = baseline(pair, scan.which, frame, asked, CONSTANTS.steps)
    top = table.head(most)
    beside = rec.attention_beside_random(
        pair,
        scan.which,
        frame,
        top,
        said,
        scan.plan.seed,
        on_progress=scan.report("random strings"),
    )
    return table.assign(l_attn_random=beside["l_attn_random"])


def losses_of(scan: Scan, frame: Frame, count: int) -> Work:
    """What the losses of so many candidates take: batches of one length, behind one prefix."""
    n_asked, size = len(scan.asked(frame)), SMALL_BATCH if scan.clock.limited else BATCH
    length, steps = prompt_tokens(frame) + rec.LENGTHS[1], CONSTANTS.steps
    parts, rows = math.ceil(count / size), count * n_asked
    wide = rows * (length + steps) + parts * len(frame.prefix)
    return Work(wide, n_asked * N_LENGTHS * parts * (steps - 1), rows * (steps - 1))


def _after(scan: Scan, frame: Frame, looked_at: int) -> Work:
    """What is measured of the best candidates: their answers, and random strings beside them."""
    rows = looked_at * len(scan.asked(frame))
    strings = min(N_LENGTHS, looked_at) * rec.RANDOM_STRINGS
    said = asking(frame, rows, rec.ANSWER_TOKENS, more=rec.LENGTHS[1])
    return said + losses_of(scan, frame, strings)


def _work(scan: Scan) -> Work:
    each = (
        losses_of(scan, frame, min(USUAL, scan.plan.limit)) + _after(scan, frame, rec.LOOKED_AT)
        for _, frame in scan.foreseen
    )
    return sum(each, Work())


def _least(scan: Scan) -> Work:
    each = (
        losses_of(scan, frame, SMALL_BATCH) + _after(scan, frame, LEAST)
        for _, frame in scan.foreseen
    )
    return sum(each, Work())


STAGE = Stage(
    "reconstruction",
    run=reconstruction,
    tables=("candidates",),
    depends_on=lambda scan: (
        scan.plan.task,
        scan.plan.limit,
        load_prompt_set(scan.plan.questions).sha256,
    ),
    words="candidate triggers are ranked by the reconstruction loss",
    growing="losses",
    work=_work,
    least=_least,
    weight=0.13,
)
