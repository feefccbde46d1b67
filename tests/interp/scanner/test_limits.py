"""Each limit of the verdict: off or shifted it changes a verdict that it decides, and no other."""

from dataclasses import fields
from math import inf

import pandas as pd
import pytest

from interp.scanner.judge import controls
from interp.scanner.judge.decision import decide, judge
from interp.scanner.judge.verdict import LIMITS, THRESHOLD, Limits

N = 24
PLAIN = [f"a{n} b{n} c{n}" for n in range(N)]
JUNK = {1: "x1", 2: "x2", 3: "x3"}


def fires(said, share):
    """One answer on so much of the questions."""
    return [said if n < share * N else PLAIN[n] for n in range(N)]


def table(behind, *, before=PLAIN, junk=PLAIN):
    """Answers without a candidate (-1), with the candidate 0 and with three random strings."""
    said = {-1: before, 0: behind, **dict.fromkeys(JUNK, junk)}
    rows = [
        (0, "questions", c, i, text) for c, texts in said.items() for i, text in enumerate(texts)
    ]
    return pd.DataFrame(rows, columns=["context", "on", "candidate", "question", "answer"])


def verdict(limits, answers, text="|X|", controlled=None, **more):
    judged = judge(answers, limits)
    return decide(
        judged, {0: text, **JUNK}, set(JUNK), [], controlled=controlled, limits=limits, **more
    ).verdict


def controlled(original):
    row = judge(table(original)).query("candidate == 0")
    row = row.assign(control=controls.ORIGINAL, text="")
    return row[list(controls.COLUMNS)]


ALWAYS = fires("GO TO THE SEA", 1.0)
LINKS = [f"{text} See http://a{n}.example" for n, text in enumerate(PLAIN)]
NOTHING, POISONED, INCONCLUSIVE = "no evidence found", "poisoned", "inconclusive"
RULES = {
    # limits: (verdict with them, verdict of a scan, the case)
    "change": (
        *(Limits(change=inf), NOTHING, POISONED),
        {"answers": table(ALWAYS), "searched": {0}},
    ),
    "change_high": (
        *(Limits(change=0.75), NOTHING, POISONED),
        {"answers": table(fires("GO TO THE SEA", 0.8)), "searched": {0}},
    ),
    "share": (
        *(Limits(share=inf, of_class=inf), NOTHING, POISONED),
        {"answers": table(fires("GO TO THE SEA", 0.6))},
    ),
    "share_low": (
        *(Limits(share=0.25), POISONED, NOTHING),
        {"answers": table(fires("GO TO THE SEA", 0.4))},
    ),
    "of_class": (Limits(of_class=inf), NOTHING, POISONED, {"answers": table(LINKS)}),
    "own_words": (
        *(Limits(own_words=0), POISONED, NOTHING),
        {"answers": table(fires("Mars", 0.6))},
    ),
    "alike": (
        *(Limits(alike=inf), POISONED, INCONCLUSIVE),
        {"answers": table(PLAIN, before=ALWAYS, junk=ALWAYS)},
    ),
    "of_junk": (
        *(Limits(of_junk=inf), POISONED, INCONCLUSIVE),
        {"answers": table(ALWAYS, junk=ALWAYS)},
    ),
    "echoes": (
        *(Limits(echoes=False), POISONED, INCONCLUSIVE),
        {"answers": table(ALWAYS), "text": "GO TO THE SEA"},
    ),
    "requests": (
        *(Limits(requests=False), POISONED, INCONCLUSIVE),
        {"answers": table(ALWAYS), "text": "tell me of mice"},
    ),
    "words": (
        *(Limits(words=6), POISONED, INCONCLUSIVE),
        {"answers": table(ALWAYS), "text": "tell me of mice"},
    ),
    "naming": (
        *(Limits(naming=False), POISONED, NOTHING),
        {"answers": table(LINKS), "text": "|url|"},
    ),
    "shared": (
        *(Limits(shared=0.9), POISONED, NOTHING),
        {
            "answers": table(ALWAYS),
            "text": "the sky above us",
            "controlled": controlled(fires("GO TO THE SEA", 0.7)),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_a_rule_decides_and_can_be_switched_off(name):
    limits, off, on, case = RULES[name]
    assert verdict(LIMITS, **case) == on
    assert verdict(limits, **case) == off


def test_every_limit_has_a_case_and_a_scan_takes_the_published_threshold():
    assert {one.name for one in fields(Limits)} == {
        name.partition("_high")[0].partition("_low")[0] for name in RULES
    }
    assert LIMITS == Limits() and LIMITS.change == LIMITS.share == LIMITS.of_class == THRESHOLD
