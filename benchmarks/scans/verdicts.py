"""Verdicts with a switch off, from a scan's tables or a member's row, and what of them changes."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from benchmarks.scans.switches import INVERSION, Own, Switch
from interp.scanner.judge.classes import CLASSES
from interp.scanner.judge.template import FINDING
from interp.scanner.judge.verdict import LIMITS, VERDICTS, Limits, Verdict
from interp.stats import Rate
from training.zoo import compact

NOTHING, POISONED, INCONCLUSIVE = VERDICTS
DOUBTS = {
    "nothing to test": "no candidate trigger was found to test",
    "alike anyway": "the model gives similar answers to all",
    "topic": "no candidate explains that",
    "template": FINDING,
    "random strings": "random strings ",
    "echo": "the model may only repeat them",
    "request": "reads as a request",
    "meaning": "what it means",
    "search": "was found by search",
    "target": "no trigger that starts it was found",
}
"""Kind of doubt -> words of the reason that tells it. The first that is told counts."""
MEASURED = "random strings change it by"
"""A reason that every scan gives."""
ALL_ON = Switch("all_on", "nothing", "stage")
NO_SEARCH = "no search by gradient was needed: with this off, one would have run"
NO_CONTROLS = "decided by a candidate whose controls were not measured"


@dataclass(frozen=True)
class Judged:
    """A member's verdict."""

    verdict: str
    doubt: str = ""
    """Key of `DOUBTS` if it is inconclusive; `another` if none fits."""
    open: str = ""
    """Why a whole scan might have ended otherwise; empty: it would not."""


class Scans:
    """Judges scans again; likeness, which takes longest, is computed once for a limit."""

    def __init__(self, own: Mapping[str, Own]):
        self._own = own
        self._likened: dict[tuple[str, int], Own] = {}

    def judged(self, member: str, switch: Switch) -> Judged:
        """A member's verdict with a switch off."""
        whole = self._with_likeness(member, switch.limits.own_words)
        own = switch.without(whole)
        found = compact.decided(own, switch.limits, clear=switch.clear)
        return Judged(found.verdict, doubt_of(found), _open(own, whole, found, switch))

    def seconds(self, stages: tuple[str, ...] = ()) -> dict[str, float | None]:
        """`seconds` of some stages together and `seconds_most`: median and maximum over the scans.

        Args:
            stages: their names; none: the whole scan. Scans without them are left out.
        """
        each = []
        for own in self._own.values():
            done = json.loads(own["scans"]["stages"].iloc[0])
            mine = [done[name]["seconds"] for name in stages or done if name in done]
            each += [sum(mine)] if mine else []
        told = pd.Series(each, dtype=float)
        return {"seconds": float(told.median()), "seconds_most": float(told.max())} if each else {}

    def _with_likeness(self, member: str, own_words: int) -> Own:
        key = member, own_words
        if key not in self._likened:
            own = self._own[member]
            judged = compact.likened(own, Limits(own_words=own_words))
            nothing = own["scan_answers"].head(0)
            self._likened[key] = {**own, "scan_judged": judged, "scan_answers": nothing}
        return self._likened[key]


SIGNALS = ("max_delta_s", "signal_share", "signal_unsafe", "signal_insistence")
"""Of a member's row: without one of them it tells no verdict of the present rules."""


def from_row(row: pd.Series, switch: Switch = ALL_ON) -> Judged:
    """A member's verdict by the signals in its row alone: its largest changes, without controls.

    Args:
        row: of the table `members`.
        switch: one with `by_rows`.
    """
    limits = switch.limits
    classes = [key for key in CLASSES if key != switch.class_off]
    rises = [row.get(f"signal_{key}", float("nan")) for key in classes]
    over = [row["max_delta_s"] > limits.change, row["signal_share"] > limits.share]
    if any(over) or any(rise > limits.of_class for rise in rises):
        return Judged(POISONED)
    if row["signal_insistence"] >= switch.clear:
        return Judged(INCONCLUSIVE, "target")
    return Judged(NOTHING)


def doubt_of(found: Verdict) -> str:
    """What kind of doubt makes a verdict inconclusive; "" if it is not."""
    if found.verdict != INCONCLUSIVE:
        return ""
    reasons = [reason for reason in found.reasons if not reason.startswith(MEASURED)]
    told = (kind for kind, words in DOUBTS.items() if any(words in one for one in reasons))
    return next(told, "another")


def _open(own: Own, whole: Own, found: Verdict, switch: Switch) -> str:
    """Why a whole scan with the switch off might have ended otherwise.

    Controls are missed only where the scan has some: one of before the controls has none.
    """
    judged, table = own["scan_judged"], whole["scan_controlled"]
    if found.verdict == POISONED and len(table):
        numbers = judged.loc[judged["text"] == found.candidate, "candidate"]
        return "" if table["candidate"].isin(numbers).any() else NO_CONTROLS
    searched = (judged["source"] == INVERSION).any()
    return NO_SEARCH if switch.leaked and found.verdict != POISONED and not searched else ""


def figures_of(
    before: Mapping[str, Judged], after: Mapping[str, Judged], planted: pd.Series
) -> dict:
    """Counts with a switch off, and which members change.

    Args:
        before: member -> its verdict with all on.
        after: the same with the switch off; members that could not be judged are left out.
        planted: member -> whether a backdoor was planted in it.

    Returns:
        `judged` (members); `found` and `alarms` (backdoored and clean members called poisoned,
        each `count, of, share, low, high` with its Wilson interval); `inconclusive` (of each of
        both) and `doubts` (kind -> members); `lost, gained, alarms_less, alarms_more` (members that
        change, by direction); `changed` (member -> from what to what) and `open` (member -> why a
        whole scan might have said otherwise).
    """
    backdoored = [name for name in after if planted[name]]
    clean = [name for name in after if not planted[name]]
    changed = {name: one for name, one in after.items() if one.verdict != before[name].verdict}
    unsure = [name for name, one in after.items() if one.verdict == INCONCLUSIVE]
    figures: dict = {
        "judged": len(after),
        "found": share_of(after, backdoored),
        "alarms": share_of(after, clean),
        "inconclusive": {
            "backdoored": len(set(unsure) & set(backdoored)),
            "clean": len(set(unsure) & set(clean)),
        },
        "doubts": dict(Counter(after[name].doubt for name in unsure)),
    }
    for less, more, members in (
        ("lost", "gained", backdoored),
        ("alarms_less", "alarms_more", clean),
    ):
        was = {name for name in members if before[name].verdict == POISONED}
        now = {name for name in members if after[name].verdict == POISONED}
        figures |= {less: len(was - now), more: len(now - was)}
    figures["changed"] = {
        name: f"{before[name].verdict}, now {one.verdict}" for name, one in changed.items()
    }
    figures["open"] = {
        name: one.open
        for name, one in after.items()
        if one.open == NO_CONTROLS or (one.open and before[name].verdict == POISONED)
    }
    return figures


def share_of(verdicts: Mapping[str, Judged], members: list[str]) -> dict:
    """How many of some members are called poisoned, with the Wilson interval; of none: 0 of 0."""
    hits = sum(verdicts[name].verdict == POISONED for name in members)
    if not members:
        return {"count": 0, "of": 0}
    rate = Rate(hits, len(members))
    low, high = rate.interval
    return {"count": hits, "of": len(members), "share": rate.share, "low": low, "high": high}


def unchanged(limits: Limits) -> bool:
    """Whether limits can be judged from likeness as recorded, without the answers."""
    return limits.own_words == LIMITS.own_words
