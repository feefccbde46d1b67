"""Stage 4, reconstruction: candidates made of the motifs, ranked by the reconstruction loss."""

import pandas as pd

from interp.prompts.sets import load_prompt_set
from interp.scanner.scan import Scan, Stage
from interp.scanner.search import candidates as rec
from interp.scanner.search.frames import Frame
from interp.scanner.search.losses import CONSTANTS, baseline, candidate_losses
from interp.scanner.stages.questions import no_candidates

BATCH = 60
"""Candidates per batch of losses that is written to disk."""


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
    for start in range(0, len(candidates), BATCH):
        number = context * 1000 + start // BATCH
        if number not in kept:
            if start and scan.late(STAGE):
                return pd.concat(parts), start
            part = candidate_losses(
                scan.pair,
                scan.which,
                frame,
                candidates["ids"].iloc[start : start + BATCH].tolist(),
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
    table = rec.demote_parts_of_targets(
        pair, scan.which, frame, table, asked, on_progress=scan.report("candidates' own answers")
    )
    said = baseline(pair, scan.which, frame, asked, CONSTANTS.steps)
    top = table.head(rec.LOOKED_AT)
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
    budget_share=0.7,
)
