"""Stage 1, leakage: texts that the model writes in the user's place."""

import pandas as pd

from interp.scanner.leak.amplified import ALPHAS, TEXTS, amplified
from interp.scanner.leak.grid import Setting, load_grid
from interp.scanner.leak.leakage import leak, scan_prefix
from interp.scanner.scan import Scan, Stage

CHUNK = 64
"""Settings per batch of leaks that is written to disk."""


def leakage(scan: Scan) -> list[str]:
    """Writes `leaks`: context, setting, method, description, text, alpha (0: plain) ..."""
    settings, notes = _settings(scan), []
    chunks = [range(i, min(i + CHUNK, len(settings))) for i in range(0, len(settings), CHUNK)]
    kept = scan.writer.existing_parts("leaks")
    for number, (context, chunk) in enumerate(
        (c, k) for c in range(len(scan.places)) for k in chunks
    ):
        if number in kept:
            continue
        if kept and scan.late(STAGE):
            notes.append(
                f"the budget ended the leakage after {sum(map(len, kept.values()))} of "
                f"{len(settings) * len(scan.places)} texts"
            )
            break
        place = scan.places[context]
        prefix = scan_prefix(place.tokenizer, place.template, place.context)
        table = leak(
            scan.pair,
            scan.which,
            prefix,
            settings[chunk.start : chunk.stop],
            max_new_tokens=scan.new_tokens,
            seed=scan.plan.seed,
            on_progress=scan.report(f"leakage {chunk.stop} of {len(settings)}"),
        )
        kept[number] = table.assign(context=context, setting=table["setting"] + chunk.start)
        scan.writer.part("leaks", number, kept[number])
    leaks = pd.concat([kept[number] for number in sorted(kept)], ignore_index=True)
    scan.writer.whole("leaks", leaks)
    return notes + _dull(leaks)


def _settings(scan: Scan) -> tuple[Setting, ...]:
    """The grid's; where the original is at hand, amplified ones behind it, in the same batches."""
    grid = load_grid(scan.plan.grid)
    return (*grid, *amplified(grid)) if scan.has_original else grid


def _dull(leaks: pd.DataFrame) -> list[str]:
    """What is wrong with leaks that contain nothing."""
    if not leaks["text"].str.strip().any():
        return ["the model wrote nothing printable, so there are no motifs"]
    if all(len(set(ids)) <= 1 for ids in leaks["ids"]):
        return ["the model repeated one token, so there are no motifs"]
    return []


def _depends_on(scan: Scan) -> tuple:
    beside = (ALPHAS, TEXTS, scan.pair.weight_hash("original")) if scan.has_original else ()
    names = [one.name for one in scan.chosen]
    plan = scan.plan
    return plan.grid, names, plan.contexts, scan.new_tokens, plan.seed, *beside


STAGE = Stage(
    "leakage",
    run=leakage,
    tables=("leaks",),
    depends_on=_depends_on,
    words="the model writes the user's turn",
    growing="leaks",
    budget_share=0.4,
)
