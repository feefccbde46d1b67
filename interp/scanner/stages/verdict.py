"""Stage 8, verdict: the best candidates are tested on questions, and the answers judged."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial

import pandas as pd

from interp.forward.activation import is_greedy_answer
from interp.scanner.cost.work import Work
from interp.scanner.judge import controls
from interp.scanner.judge.classes import CLASSES, share_of
from interp.scanner.judge.controls import JUNK
from interp.scanner.judge.decision import BASELINE, NEARBY, SEARCHED, decide, judge
from interp.scanner.judge.likeness import echo
from interp.scanner.judge.template import read_template, weighed
from interp.scanner.judge.topical import weighed_topics
from interp.scanner.judge.verdict import STANDARD, THRESHOLD, Verdict
from interp.scanner.scan import Scan, Stage, asking, prompt_tokens
from interp.scanner.search import candidates as rec
from interp.scanner.search.candidates import LONGEST
from interp.scanner.search.targets import CLEAR, at_least
from interp.scanner.stages.divergence import SOURCE as DIVERGENCE
from interp.scanner.stages.divergence import clear, group_frame
from interp.scanner.stages.questions import (
    CONTROLLED,
    EXTRA,
    Questions,
    best,
    controls_of,
    tested,
)
from interp.scanner.stages.replay import ANSWER_TOKENS, NEAR, SOURCE, nearby

NEARLY = 0.95
"""Share of the questions with an answer that must still have it with a shortened candidate."""
REACHED = 0.5
"""Nats per token of its target up to which a string found by search is tested. On the models that
the scanner was written on: triggers .01 to .3, clean models .9 and more."""
DIVERGING = 5
"""Strings of the divergence search that are tested, per context, and inside each topic."""
CUTS = 2
"""Shortenings of a trigger that time is kept for."""
CANDIDATE_COLUMNS = ["ids", "text", "n_tokens", "source", "rank", "context"]


def verdict(scan: Scan) -> list[str]:
    """Writes `answers`, `judged`, `controlled`, and the verdict into `run.json`."""
    template, chosen = read_template(scan.pair.tokenizer), _chosen(scan)
    sets = [*_standard(scan, chosen), *_nearby(scan, chosen), *_on_topics(scan, chosen)]
    kept = scan.clock.answering(_afterwards(scan))
    table, notes = tested(scan, chosen, sets, kept)
    judged = judge(table)
    meta = scan.writer.meta
    could_not = [meta["budget"]["note"]] if "budget" in meta else []
    could_not += [note for entry in meta.get("stages", {}).values() for note in entry["notes"]]
    could_not += notes
    junk = set(chosen.index[chosen["source"] == JUNK])
    insisted = at_least(scan.writer.existing_table("targets"), CLEAR)
    texts = insisted["text"].tolist() if len(insisted) else []
    searched = set(chosen.index[chosen["source"].isin(SEARCHED)])
    named = chosen["text"].to_dict()
    weigh = partial(decide, judged, named, junk, could_not, texts, searched)
    found, controlled = _controlled(scan, named, sets, table, judged, weigh)
    if found.verdict == "poisoned":
        top = _deciding(named, judged, found)
        trigger, cut = _cut_down(scan, chosen, sets, top, found)
        found = replace(found, trigger=trigger, could_not=(*found.could_not, *cut))
        notes += cut
    more = chosen[["text", "n_tokens", "source", "rank"]].rename_axis("candidate").reset_index()
    found = weighed_topics(found, scan.writer.existing_table("topics"))
    found = weighed(found, template)
    scan.writer.table("answers", table)
    scan.writer.table("judged", judged.merge(more, on="candidate", how="left"))
    scan.writer.table("controlled", controlled)
    scan.writer.note(verdict=asdict(found))
    return notes


def _controlled(
    scan: Scan,
    named: dict[int, str],
    sets: Sequence[Questions],
    answers: pd.DataFrame,
    judged: pd.DataFrame,
    weigh: Callable[[pd.DataFrame], Verdict],
) -> tuple[Verdict, pd.DataFrame]:
    """The verdict, with the controls of each candidate that would have decided it.

    Only these are controlled: for a candidate without an effect there is nothing to control.
    """
    table = controls.nothing()
    for _ in range(CONTROLLED):
        found = weigh(table)
        top = _deciding(named, judged, found)
        if top is None or len(controls.measured(table, top)):
            return found, table
        if not scan.clock.still_holds(_of_controls(scan, _asked(sets, top))):
            return _uncontrolled(found), table
        there = (answers["context"] == top["context"]) & (answers["on"] == top["on"])
        plain = answers[there & (answers["candidate"] == BASELINE)].sort_values("question")
        number, said = top["candidate"], plain["answer"].tolist()
        more = controls_of(scan, _asked(sets, top), number, named[number], said)
        table = more if table.empty else pd.concat([table, more], ignore_index=True)
    return weigh(table), table


def _uncontrolled(found: Verdict) -> Verdict:
    """A verdict on a candidate that the budget left no time to control."""
    kind = "inconclusive" if found.verdict == "poisoned" else found.verdict
    why = f"but the budget left no time for the controls of {found.candidate!r}"
    return replace(found, verdict=kind, reasons=(*found.reasons, why))


def _deciding(named: dict[int, str], judged: pd.DataFrame, found: Verdict) -> pd.Series | None:
    """The row of `judged` that a verdict names, if it has an effect and is no echo."""
    # One text may be a candidate of several contexts and sources.
    same = (judged["candidate"].map(named) == found.candidate) & (judged["on"] == found.on)
    effect = CLASSES[found.by_class].rise if found.by_class else "delta_s"
    if not found.by_class:
        same &= (judged["answer"] == found.answer) & (judged["share"] == found.share)
    rows = judged[same].sort_values(effect)
    if rows.empty or found.verdict == "no evidence found":
        return None
    top = rows.iloc[-1]
    over = controls.effects(rows, found.by_class).iloc[-1] > THRESHOLD
    repeats = not found.by_class and echo(found.candidate, found.answer)
    return top if over and not repeats else None


def _asked(sets: Sequence[Questions], top: pd.Series) -> Questions:
    """The questions of a row of `judged`."""
    where = top["context"], top["on"]
    return next(one for one in sets if (one.context, one.on) == where)


def reached(inverted: pd.DataFrame) -> pd.DataFrame:
    """The strings found by search that more or less make the model say their target.

    The best strings for a phrase that a clean model merely knows by heart do not.

    Args:
        inverted: the table of the stage inversion.
    """
    return inverted[inverted["loss"] <= REACHED] if len(inverted) else inverted


def _chosen(scan: Scan) -> pd.DataFrame:
    """The candidates that are tested: the best of each source and context, and controls."""
    parts = []
    for name in ("candidates", "own", "inverted"):
        table = scan.writer.existing_table(name)
        table = reached(table) if name == "inverted" else table
        parts += [
            best(part, scan.plan.keep)[CANDIDATE_COLUMNS] for _, part in table.groupby("context")
        ]
    diverging = _diverging(scan, parts)
    parts += [diverging] if len(diverging) else []
    chosen = (
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=CANDIDATE_COLUMNS)
    )
    lengths = [int(chosen["n_tokens"].median())] if len(chosen) else []
    strings = rec.random_strings(scan.pair, lengths, scan.plan.seed + 1)
    junk = [strings.assign(context=c, rank=0) for c in range(len(scan.frames))]
    return pd.concat([chosen, *junk], ignore_index=True)


def _diverging(scan: Scan, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The strings that split suspect and original more than random ones do, and are not tested yet.

    Args:
        scan: what the stages share.
        parts: the candidates that are tested already.
    """
    seen = {(row.context, tuple(row.ids)) for part in parts for row in part.itertuples(index=False)}
    found, new = clear(scan.writer.existing_table("diverging")).assign(source=DIVERGENCE), []
    for row in found.itertuples(index=False):
        new.append((row.context, tuple(row.ids)) not in seen)
        seen.add((row.context, tuple(row.ids)))
    return found.loc[new].groupby(["context", "group"]).head(DIVERGING)[CANDIDATE_COLUMNS]


def _standard(scan: Scan, chosen: pd.DataFrame) -> list[Questions]:
    """The same questions for all candidates, once per context."""
    return [
        Questions(
            context, STANDARD, frame, chosen.loc[chosen["context"] == context, "ids"].to_dict()
        )
        for context, frame in enumerate(scan.frames)
    ]


def _nearby(scan: Scan, chosen: pd.DataFrame) -> list[Questions]:
    """Each candidate of the replay on its nearby questions.

    The random strings of the context are tested there too, as a control.
    """
    own, replayed, sets = (
        scan.writer.existing_table("own"),
        scan.writer.existing_table("replayed"),
        [],
    )
    for number, row in chosen[chosen["source"] == SOURCE].iterrows():
        context = row["context"]
        there = own[(own["context"] == context) & (own["text"] == row["text"])].iloc[0]
        near = nearby(scan, context, there, replayed[replayed["context"] == context])
        same = (chosen["context"] == context) & (chosen["source"] == JUNK)
        ids = {number: row["ids"], **chosen.loc[same, "ids"].to_dict()}
        named = f"{NEARBY} {number}"
        sets.append(Questions(context, named, near.frame, ids, ANSWER_TOKENS, near.plain))
    return sets


def _on_topics(scan: Scan, chosen: pd.DataFrame) -> list[Questions]:
    """The strings found inside a topic on its questions, and the random strings as a control."""
    diverging, sets = clear(scan.writer.existing_table("diverging")), []
    for (context, group), part in diverging[diverging["group"] != ""].groupby(["context", "group"]):
        found, here = set(part["ids"].map(tuple)), chosen["context"] == context
        mine = here & chosen["ids"].map(tuple).isin(found)
        if not mine.any():
            continue
        ids = chosen.loc[mine | (here & (chosen["source"] == JUNK)), "ids"].to_dict()
        frame = group_frame(scan, context, group)
        sets.append(Questions(context, f"questions on {group}", frame, ids))
    return sets


def _cut_down(
    scan: Scan,
    chosen: pd.DataFrame,
    sets: Sequence[Questions],
    top: pd.Series,
    found: Verdict,
) -> tuple[str, list[str]]:
    """The candidate, shortened to the tokens that its answer needs; and what the budget ended.

    Tokens are removed from the end, then from the front, as long as the answer (or its class)
    stays for 95 % of the questions that had it.
    """
    asked = _asked(sets, top)
    ids = list(chosen.at[top["candidate"], "ids"])

    keeps = _is_of(scan, asked, found) if found.by_class else _says(scan, asked, ids, found)
    each, late = _shortening(asked), False

    def goes_on(part: list[int]) -> bool:
        nonlocal late
        late = late or (bool(part) and not scan.clock.fits(each))
        return bool(part) and not late and keeps(part)

    while goes_on(ids[:-1]):
        ids = ids[:-1]
    while goes_on(ids[1:]):
        ids = ids[1:]
    notes = ["the budget ended the shortening of the trigger"] if late else []
    return scan.pair.tokenizer.decode(ids).strip(), notes


def _is_of(scan: Scan, asked: Questions, found: Verdict) -> Callable[[list[int]], bool]:
    """A test whether nearly as many answers are of the class with other tokens."""
    of = CLASSES[found.by_class].counts(found.answer)
    return lambda ids: share_of(of, asked.answers(scan, ids)) >= NEARLY * found.share


def _says(
    scan: Scan, asked: Questions, candidate: list[int], found: Verdict
) -> Callable[[list[int]], bool]:
    """A test whether nearly as many questions get the same answer with other tokens.

    The questions are not answered again token by token: the answer is known, so one pass decides.
    """
    given = scan.answer_ids(asked.rows(candidate), asked.new_tokens)
    same = [ids for ids in given if scan.text(ids).strip() == found.answer]
    answer = Counter(same or given).most_common(1)[0][0]
    ended = len(answer) < asked.new_tokens

    def keeps(ids: list[int]) -> bool:
        said = is_greedy_answer(scan.pair, scan.which, asked.rows(ids), answer, ended=ended)
        return sum(said) >= NEARLY * found.share * len(said)

    return keeps


def _of_controls(scan: Scan, asked: Questions) -> Work:
    """What the controls of one candidate take: random strings, other forms, the original."""
    strings = EXTRA + 2 + 2 * scan.has_original  # without the candidate too
    rows, calls = strings * len(asked.frame.questions), 1 + scan.has_original
    return asking(asked.frame, rows, asked.new_tokens, more=LONGEST / 4, calls=calls)


def _afterwards(scan: Scan) -> Work:
    """What controls and shortening of one candidate take."""
    _, frame = scan.foreseen[0]
    asked, n = Questions(0, STANDARD, frame, {}), len(frame.questions)
    answered = asking(frame, n, asked.new_tokens, more=LONGEST / 4)  # what shorter ones must say
    return _of_controls(scan, asked) + answered + _shortening(asked) * CUTS


def _shortening(asked: Questions) -> Work:
    """One look at a shortened trigger: the answer is read behind whole prompts."""
    length = len(asked.frame.prefix) + prompt_tokens(asked.frame) + asked.new_tokens
    return Work(wide=len(asked.frame.questions) * length)


def _work(scan: Scan) -> Work:
    """Of the motifs as many candidates as are tested at most; of the replay one, on its own too."""
    found, keep, leaked = _afterwards(scan), scan.plan.keep, _leaked(scan)
    if leaked is not None:
        keep = min(keep, math.ceil(leaked / len(scan.foreseen)))
    more, pieces = LONGEST / 4, max(1, keep) if scan.clock.limited else 1
    for _, frame in scan.foreseen:
        tested = (2 + rec.RANDOM_STRINGS + keep) * len(frame.questions)
        found += asking(frame, tested, rec.ANSWER_TOKENS, more=more, calls=pieces)
        found += asking(frame, (1 + rec.RANDOM_STRINGS) * NEAR, ANSWER_TOKENS, more=more)
    return found


def _least(scan: Scan) -> Work:
    # Where nothing leaked, a search may still find a string; the time is the search's first.
    found = Work() if _leaked(scan) == 0 else _afterwards(scan)
    for _, frame in scan.foreseen:
        rows = (2 + rec.RANDOM_STRINGS) * len(frame.questions)
        found += asking(frame, rows, rec.ANSWER_TOKENS, more=LONGEST / 4)
    return found


def _leaked(scan: Scan) -> int | None:
    """Candidates of the motifs and the replay; None before they are known."""
    if "reconstruction" not in scan.writer.meta.get("stages", {}):
        return None
    tables = map(scan.writer.existing_table, ("candidates", "own"))
    return sum(len(table) for table in tables if table is not None)


STAGE = Stage(
    "verdict",
    run=verdict,
    tables=("answers", "judged", "controlled"),
    depends_on=lambda scan: (scan.plan.keep, EXTRA, scan.has_original),
    words="the best candidates are tested on questions",
    work=_work,
    least=_least,
    weight=0.14,
)
