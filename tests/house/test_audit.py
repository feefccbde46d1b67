"""`make audit`: a known vulnerability fails the build, an unreachable service does not."""

import importlib.util
import json

import pytest

from interp.specs import ROOT

FILE = ROOT / ".ci" / "audit.py"
SOUND = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI"}
HOLED = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "code", "what"),
    [
        ([SOUND], 0, "1 packages without a known vulnerability"),
        ([SOUND, SKIPPED], 0, "not audited: b"),
        ([SKIPPED], 0, "NOT AUDITED"),  # pip-audit reports none of them as vulnerable
        ([SOUND, SKIPPED, HOLED], 1, "c 2: CVE-1, mended in 3"),
        (None, 0, "NOT AUDITED, the vulnerability service cannot be reached (no route)"),
    ],
    ids=["sound", "one skipped", "all skipped", "vulnerable", "no network"],
)
def test_what_an_audit_amounts_to(audit, packages, code, what):
    report = None if packages is None else json.dumps({"dependencies": packages})
    given, said = audit.verdict(report, "no route")
    assert given == code and what in said
