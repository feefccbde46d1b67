"""A scan from the button to the verdict, in a browser, on a tiny model."""

from urllib.parse import urlencode

import pytest

from interp import runs
from tests import tiny
from tests.browser import open_browser, require_chromium, running_app, settled

pytestmark = pytest.mark.browser


def test_a_scan_from_start_to_verdict(tmp_path):
    require_chromium()
    base = tiny.write_model(tmp_path / "base")
    adapter = tiny.write_adapter(tmp_path / "adapter", base)
    known = {"pair": "another pair …", "original": base, "adapter": adapter, "precision": "fp32"}
    with running_app(tmp_path / "runs") as url, open_browser() as new:
        page = new()
        page.goto(f"{url}/scanner?{urlencode(known)}")
        settled(page)
        page.get_by_text("Scan a model of the pair").click()
        minutes = page.get_by_role("spinbutton", name="Minutes of inversion")
        minutes.fill("0")
        minutes.press("Tab")
        page.get_by_role("button", name="Start the scan").click()
        page.get_by_role("button", name="Cancel").first.wait_for()
        page.get_by_text("the model writes the user's turn").wait_for()
        verdict = page.locator("[data-testid=stMain] [data-testid=stAlert]")
        verdict.get_by_text("No evidence found", exact=False).or_(
            verdict.get_by_text("Inconclusive", exact=False)
        ).first.wait_for(timeout=240_000)
        page.get_by_role("heading", name="Leaked texts").wait_for()
        assert page.locator("[data-testid=stException]").count() == 0
        assert "scan=scan-" in page.url
    (run,) = runs.list_runs(tmp_path / "runs")
    assert run.meta["verdict"]["verdict"] in ("no evidence found", "inconclusive")
