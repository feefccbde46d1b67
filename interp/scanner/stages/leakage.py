"""Stage 1, leakage: texts that the model writes in the user's place."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from interp.scanner.cost.shares import most_that
from interp.scanner.cost.work import Work
from interp.scanner.leak.amplified import ALPHAS, TEXTS, amplified
from interp.scanner.leak.grid import Setting, load_grid, spaced
from interp.scanner.leak.leakage import leak, scan_prefix
from interp.scanner.scan import Scan, Stage

CHUNK = 64
"""Settings per batch of leaks that is written to disk."""
SHORT = 60
"""Tokens to which a budget shortens texts before it leaves any out."""
FEWEST, SHORTEST = 48, 40
"""Texts, and tokens of each, that every budget buys."""


def leakage(scan: Scan) -> list[str]:
    """Writes `leaks`: context, setting, method, description, text, alpha (0: plain) ..."""
    kept = scan.writer.existing_parts("leaks")
    settings, new_tokens, notes = _planned(scan, bool(kept))
    chunks = [range(i, min(i + CHUNK, len(settings))) for i in range(0, len(settings), CHUNK)]
    late = _late(scan)
    for number, (context, chunk) in enumerate(
        (c, k) for c in range(len(scan.places)) for k in chunks
    ):
        if number in kept:
            continue
        if kept and scan.late():
            break
        place = scan.places[context]
        prefix = scan_prefix(place.tokenizer, place.template, place.context)
        table = leak(
            scan.pair,
            scan.which,
            prefix,
            list(settings.values())[chunk.start : chunk.stop],
            max_new_tokens=new_tokens,
            seed=scan.plan.seed,
            on_progress=scan.report(f"leakage {chunk.stop} of {len(settings)}"),
            late=late,
        )
        numbers = np.array(list(settings))[table["setting"] + chunk.start]
        kept[number] = table.assign(context=context, setting=numbers)
        scan.writer.part("leaks", number, kept[number])
    leaks = pd.concat([kept[number] for number in sorted(kept)], ignore_index=True)
    scan.writer.whole("leaks", leaks)
    return notes + _cut(scan, leaks, len(settings) * len(scan.places), new_tokens) + _dull(leaks)


def _cut(scan: Scan, leaks: pd.DataFrame, n_texts: int, new_tokens: int) -> list[str]:
    """Which texts the budget left out or ended, as notes.

    Args:
        scan: what the stages share.
        leaks: the texts that were leaked.
        n_texts: that were planned.
        new_tokens: of each.
    """
    if not scan.clock.limited:
        return []
    room = [scan.pair.max_length - len(frame.prefix) for frame in scan.frames]
    short = leaks["n_tokens"] < np.minimum(new_tokens, np.array(room)[leaks["context"]])
    lengths, notes = leaks.loc[short, "n_tokens"], []
    if len(leaks) < n_texts:
        notes = [f"the budget ended the leakage after {len(leaks)} of {n_texts} texts"]
    if len(lengths):
        notes.append(
            f"the budget ended {len(lengths)} of {len(leaks)} leaked texts after {lengths.min()} "
            f"to {lengths.max()} of {new_tokens} tokens"
        )
    return notes


def _settings(scan: Scan) -> tuple[Setting, ...]:
    """The grid's; where the original is at hand, amplified ones behind it, in the same batches."""
    grid = load_grid(scan.plan.grid)
    return (*grid, *amplified(grid)) if scan.has_original else grid


def _planned(scan: Scan, begun: bool) -> tuple[dict[int, Setting], int, list[str]]:
    """The settings by number, and the tokens of each text: fewer where the budget is short.

    Args:
        scan: what the stages share.
        begun: whether texts of this run are there, which were planned already.
    """
    settings, tokens = _settings(scan), scan.new_tokens
    if not scan.clock.limited:
        return dict(enumerate(settings)), tokens, []
    planned = scan.writer.meta.get("leaked") if begun else None
    count, length = planned or _sizes(scan, settings)
    scan.writer.note(leaked=[count, length])
    numbers = spaced(len(settings), count)
    notes = []
    if count < len(settings) or length < tokens:
        shorter = f", of {length} tokens instead of {tokens}" if length < tokens else ""
        notes = [f"for the budget {count} of {len(settings)} texts were leaked{shorter}"]
    return {number: settings[number] for number in numbers}, length, notes


def _sizes(scan: Scan, settings: Sequence[Setting]) -> tuple[int, int]:
    """How many texts of how many tokens fit: they are shortened first, then left out."""
    n_places = len(scan.places)

    def fits(count: int, length: int) -> bool:
        work = work_of([settings[number] for number in spaced(len(settings), count)], length)
        return scan.clock.fits(work * n_places)

    short, few = (min(pair) for pair in ((SHORT, scan.new_tokens), (FEWEST, len(settings))))
    count = len(settings)
    length = most_that(lambda n: fits(count, n), scan.new_tokens, short)
    if not fits(count, length):
        count = most_that(lambda n: fits(n, length), count, few)
    if not fits(count, length):
        length = most_that(lambda n: fits(count, n), length, min(SHORTEST, length))
    return count, length


def _late(scan: Scan) -> Callable[[], bool]:
    """Whether the stage's time is over; never before the first few tokens."""
    asked = 0

    def late() -> bool:
        nonlocal asked
        asked += 1
        return asked > SHORTEST and scan.late()

    return late


def work_of(settings: Sequence[Setting], new_tokens: int) -> Work:
    """What texts of these settings take, behind one prefix.

    Args:
        settings: one a text; the beams of each width are searched once a batch.
        new_tokens: of each text.
    """
    found, steps = Work(), new_tokens - 1
    for start in range(0, len(settings), CHUNK):
        chunk = settings[start : start + CHUNK]
        drawn = sum(one.method != "beam" for one in chunk)
        beams = sum({one.beams for one in chunk if one.method == "beam"})
        beside = sum(bool(one.alpha) for one in chunk)
        passes = steps * sum(map(bool, (drawn, beams, beside)))
        rows = steps * (drawn + beams + beside)
        found += Work(0, passes, rows, new_tokens * (drawn + beams))
    return found


def _work(scan: Scan) -> Work:
    settings = _settings(scan)
    return work_of(settings, scan.new_tokens) * len(scan.foreseen)


def _least(scan: Scan) -> Work:
    settings = _settings(scan)[:FEWEST]
    return work_of(settings, min(SHORTEST, scan.new_tokens)) * len(scan.foreseen)


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
    work=_work,
    least=_least,
    weight=0.27,
)
