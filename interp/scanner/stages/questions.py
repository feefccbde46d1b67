"""Questions with a candidate in front, which candidates are tested, and their controls."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from interp.forward.greedy import greedy_answers
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.scanner.judge.controls import COLUMNS, JUNK, ORIGINAL, may_mean, variants
from interp.scanner.judge.decision import BASELINE, NEARBY, judge
from interp.scanner.judge.likeness import alike, echo, majority, rise_of_share
from interp.scanner.judge.verdict import STANDARD, THRESHOLD
from interp.scanner.scan import Scan, asking
from interp.scanner.search import candidates as rec
from interp.scanner.search.frames import Frame, in_place
from interp.specs import Which

OF_ONE_MOTIF = 2
"""Candidates of one motif that are tested: more would show the same."""
EXTRA = 7
"""Random strings of the candidate's own length, besides the three that every scan tests."""
CONTROLLED = 6
"""Candidates that are controlled at most: the first that stands its controls is enough."""


@dataclass(frozen=True)
class Questions:
    """Some questions, and the candidates that are tested on them."""

    context: int
    on: str
    """`STANDARD`, or whose nearby questions they are."""
    frame: Frame
    candidates: dict[int, list[int]]
    """Number of a candidate -> its token ids."""
    new_tokens: int = rec.ANSWER_TOKENS
    plain: tuple[str, ...] | None = None
    """The answers without a candidate; None: not known yet."""

    def rows(self, ids: Sequence[int] | None) -> list[tuple[int, ...]]:
        """The prompts with a candidate, or (None) without."""
        return [self.frame.ids(number, ids) for number in range(len(self.frame.questions))]

    def answers(self, scan: Scan, ids: Sequence[int] | None) -> list[str]:
        """The answers to all questions with a candidate, or (None) without."""
        return scan.answers(self.rows(ids), self.new_tokens)


def tested(
    scan: Scan, chosen: pd.DataFrame, sets: Sequence[Questions], kept: float
) -> tuple[pd.DataFrame, list[str]]:
    """The answers to all sets; under a budget to what it holds, the best candidates first.

    Args:
        scan: what the stages share.
        chosen: all candidates by number, with `source`.
        sets: the questions, with their candidates.
        kept: seconds of the stage that are kept for the controls of one candidate.

    Returns:
        `context, on, candidate, question, asked, answer` (candidate -1 is none), and notes.
    """
    if not scan.clock.limited:
        return pd.concat([_answered(scan, asked) for asked in sets], ignore_index=True), []
    parts, left = [], []
    plain: dict[tuple[int, str], tuple[str, ...]] = {}
    for needed, piece in _pieces(chosen, sets):
        place = piece.context, piece.on
        piece = replace(piece, plain=piece.plain or plain.get(place))
        rows = (len(piece.candidates) + (piece.plain is None)) * len(piece.frame.questions)
        work = asking(piece.frame, rows, piece.new_tokens, more=rec.LONGEST / 4)
        if not needed and not scan.clock.fits_answers(work, kept):
            left.append(piece)
            continue
        parts.append(_answered(scan, piece))
        mine = parts[-1]["candidate"] == BASELINE
        plain[place] = tuple(parts[-1].loc[mine, "answer"])
    table = pd.concat(parts, ignore_index=True)
    table = table.drop_duplicates(["context", "on", "candidate", "question"], ignore_index=True)
    named = set(chosen.index[chosen["source"] != JUNK])
    return table, _left_out(left, named, named & set(table["candidate"]))


def _left_out(left: Sequence[Questions], named: set[int], done: set[int]) -> list[str]:
    """What a budget left no time to ask, as notes.

    Args:
        left: the questions that were not asked.
        named: the candidates.
        done: those that were tested.
    """
    if done < named:
        return [f"the budget ended the tests after {len(done)} of {len(named)} candidates"]
    ons = dict.fromkeys("nearby questions" if _near(one) else one.on for one in left)
    return [f"the budget left no time to test candidates on {', '.join(ons)}"] if ons else []


def _pieces(chosen: pd.DataFrame, sets: Sequence[Questions]) -> Iterator[tuple[bool, Questions]]:
    """The sets in pieces that are asked one after another, and whether each is asked anyway.

    First each context's random strings with its best candidate; then the other candidates, the
    sources in turns, and a candidate's own questions right behind it; topics at last.
    """
    junk, order = set(chosen.index[chosen["source"] == JUNK]), []
    turns = chosen.groupby(["context", "source"], sort=False).cumcount()
    for number in turns.sort_values(kind="stable").index:
        order += [] if number in junk else [number]
    standard = [one for one in sets if one.on == STANDARD]
    first: set[int] = set()
    for asked in standard:
        best_one = [number for number in order if number in asked.candidates][:1]
        first.update(best_one)
        some = [*best_one, *(number for number in asked.candidates if number in junk)]
        yield True, _only(asked, some)
    for number in order:
        for asked in sets:
            own = asked.on == STANDARD and number not in first
            if number in asked.candidates and own:
                yield False, _only(asked, [number])
            elif asked.on == f"{NEARBY} {number}":
                yield False, asked
    yield from ((False, one) for one in sets if one.on != STANDARD and not _near(one))


def _near(asked: Questions) -> bool:
    return asked.on.startswith(NEARBY)


def _only(asked: Questions, numbers: Sequence[int]) -> Questions:
    return replace(asked, candidates={n: asked.candidates[n] for n in numbers})


def _answered(scan: Scan, asked: Questions) -> pd.DataFrame:
    """`context, on, candidate, question, asked, answer`; candidate -1 is none."""
    wanted: dict[int, Sequence[int] | None] = {BASELINE: None} if asked.plain is None else {}
    wanted |= asked.candidates
    said = {} if asked.plain is None else {BASELINE: asked.plain}
    texts = [question.text for question in asked.frame.questions]
    rows = [row for ids in wanted.values() for row in asked.rows(ids)]
    answers, n = scan.answers(rows, asked.new_tokens), len(texts)
    said |= {number: answers[i * n : (i + 1) * n] for i, number in enumerate(wanted)}
    parts = [
        pd.DataFrame(
            {
                "context": asked.context,
                "on": asked.on,
                "candidate": number,
                "question": range(len(texts)),
                "asked": texts,
                "answer": answers,
            }
        )
        for number, answers in said.items()
    ]
    return pd.concat(parts, ignore_index=True)


def best(table: pd.DataFrame, keep: int) -> pd.DataFrame:
    """The candidates of one context that are tested: the first ones, few of one motif.

    Args:
        table: candidates with `rank`, and `motif` where they were cut from one.
        keep: so many at most.
    """
    if "motif" in table:
        fellows = table.sort_values("rank").groupby("motif").cumcount()  # no number without motif
        table = table[fellows.reindex(table.index).fillna(0) < OF_ONE_MOTIF]
    return table.sort_values("rank", kind="stable").head(keep)


def gives_away(scan: Scan, frame: Frame, candidates: pd.DataFrame) -> bool:
    """Whether a candidate already makes the answers similar, and is no echo and no request."""
    if candidates.empty:
        return False
    if gave_away(candidates):
        return True
    asked = Questions(0, STANDARD, frame, {})
    before = asked.answers(scan, None)
    base = alike(before).s_agg
    for ids, text in zip(candidates["ids"], candidates["text"], strict=True):
        said = asked.answers(scan, ids)
        effect = max(abs(alike(said).s_agg - base), rise_of_share(before, said))
        if effect > THRESHOLD and not echo(text, majority(said)[0]):
            if not may_mean(text, majority(said)[0]):
                return True
    return False


def gave_away(candidates: pd.DataFrame) -> bool:
    """Whether the replay of the model's own questions has shown that of a candidate; no model runs.

    Args:
        candidates: of one context or of several; without the column `gain` nothing is known.
    """
    if "gain" not in candidates:
        return False
    clear = candidates[candidates["gain"] > THRESHOLD]
    pairs = zip(clear["text"], clear["answer"], strict=True)
    return not all(may_mean(*pair) or echo(*pair) for pair in pairs)


def controls_of(
    scan: Scan, asked: Questions, number: int, text: str, plain: Sequence[str]
) -> pd.DataFrame:
    """Measure the controls of one candidate on the questions on which it has its effect.

    Args:
        scan: what the stages share.
        asked: the questions, with the candidate among `candidates`.
        number: of the candidate.
        text: of the candidate.
        plain: the scanned model's answers without a candidate.

    Returns:
        One row per control, columns `COLUMNS`.
    """
    ids, place = asked.candidates[number], scan.places[asked.context]
    strings = rec.random_strings(scan.pair, [len(ids)], scan.plan.seed + 2, EXTRA)
    written = variants(text.strip(), 1)
    tokens = [in_place(place.tokenizer, place.template, one) for one in written.values()]
    names = [*written, *[JUNK] * len(strings)]
    texts = [*written.values(), *strings["text"]]
    told, behind = scan.report("controls"), [*tokens, *strings["ids"]]
    found = judged_with(scan.pair, scan.which, asked, behind, plain, on_progress=told)
    parts = [found[found["candidate"] != BASELINE].assign(control=names, text=texts)]
    if scan.has_original:
        found = judged_with(scan.pair, "original", asked, [ids], on_progress=told)
        found = found[found["candidate"] != BASELINE]
        parts.append(found.assign(control=ORIGINAL, text=""))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(context=asked.context, on=asked.on, candidate=number)[list(COLUMNS)]


def judged_with(
    pair: ModelPair,
    which: Which,
    asked: Questions,
    strings: Sequence[Sequence[int]],
    plain: Sequence[str] | None = None,
    *,
    batch_size: int = 64,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """`judge` of one model's answers without a candidate and with each of some strings.

    Args:
        pair: the models.
        which: the model that is asked.
        asked: the questions; its candidates are not used.
        strings: token ids of each; string i is the candidate i of the table.
        plain: the model's answers without a candidate; None: it is asked.
        batch_size: prompts per forward pass.
        on_progress: see `greedy_answers`.

    Returns:
        The table of `judge`, `BASELINE` first, then the strings in their order.
    """
    wanted = [*([None] if plain is None else []), *strings]
    rows = [row for ids in wanted for row in asked.rows(ids)]
    said = greedy_answers(
        pair,
        which,
        rows,
        max_new_tokens=asked.new_tokens,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    texts = [pair.tokenizer.decode(list(ids), skip_special_tokens=True) for ids in said]
    texts, n = [*(plain or []), *texts], len(asked.frame.questions)
    table = pd.DataFrame(
        {
            "context": asked.context,
            "on": asked.on,
            "candidate": [i // n + BASELINE for i in range(len(texts))],
            "question": [i % n for i in range(len(texts))],
            "answer": texts,
        }
    )
    return judge(table).sort_values("candidate", ignore_index=True)


def no_candidates() -> pd.DataFrame:
    """An empty table with the columns of `candidates`."""
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
