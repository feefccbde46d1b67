"""Scans from the button to the verdict, in a browser, on tiny models; and from scan to scan."""

from dataclasses import asdict
from urllib.parse import urlencode

import pytest

from interp.runs import reading
from interp.specs import ModelSpec
from tests.support import tiny
from tests.support.browser import choose, running_app, settled

pytestmark = pytest.mark.browser


def minutes_of_inversion(page, form: str, minutes: str) -> None:
    """The form that is open; both have the field."""
    field = page.locator(f".st-key-scan-{form}-inversion input")
    field.fill(minutes)
    field.press("Tab")


def verdict_of(page) -> str:
    """Waits for it."""
    alert = page.locator("[data-testid=stMain] [data-testid=stAlert]")
    found = alert.get_by_text("No evidence found").or_(alert.get_by_text("Inconclusive")).first
    found.wait_for(timeout=240_000)
    return found.inner_text()


def test_a_scan_from_start_to_verdict(tmp_path, new_page):
    base = tiny.write_model(tmp_path / "base", num_hidden_layers=1)
    adapter = tiny.write_adapter(tmp_path / "adapter", base)
    known = {"pair": "another pair …", "original": base, "adapter": adapter, "precision": "fp32"}
    with running_app(tmp_path / "runs") as url:
        page = new_page()
        page.goto(f"{url}/scanner?{urlencode(known)}")
        settled(page)
        page.get_by_text("Scan a model of the pair").click()
        minutes_of_inversion(page, "pair", "0")
        page.get_by_role("button", name="Start the scan").click()
        page.get_by_role("button", name="Cancel").first.wait_for()
        verdict_of(page)
        page.get_by_role("heading", name="Leaked texts", exact=True).wait_for()
        assert page.locator("[data-testid=stException]").count() == 0
        assert "scan=scan-" in page.url
        first = page.url
        page.get_by_text("Scan a model by its name or folder").click()
        minutes_of_inversion(page, "model", "0")
        page.get_by_role("button", name="Scan this model").click()
        page.get_by_text("name the model to scan").wait_for()
        page.get_by_role("textbox", name="Model (hub id, folder or .gguf file)").fill(str(base))
        page.get_by_role("button", name="Scan this model").click()
        cancel = page.get_by_role("button", name="Cancel").first
        cancel.wait_for()
        page.wait_for_url(lambda url: url != first)
        cancel.wait_for(state="detached", timeout=240_000)
        verdict_of(page)
    first, second = sorted(
        reading.list_runs(tmp_path / "runs"), key=lambda run: run.meta["started"]
    )
    assert first.meta["facts"]["model"]["adapter"] == str(adapter)
    assert second.meta["facts"]["model"] == asdict(ModelSpec(str(base)))
    for run in (first, second):
        assert run.meta["verdict"]["verdict"] in ("no evidence found", "inconclusive")


def test_a_candidate_is_of_the_scan_that_is_open(address, new_page):
    """Chosen in one scan, it stood under the verdict of the next, on the page and in the link."""
    page = new_page()
    known = {"pair": "a recorded run …", "scan": "scan-emoji"}  # no model is loaded
    page.goto(f"{address}/scanner?{urlencode(known)}")
    settled(page)
    choose(page, "Candidate", "own questions · ΔS 0.91")
    page.wait_for_url("**/*candidate=*")
    choose(page, "Scan", "scan-base")
    page.get_by_text("No evidence found").first.wait_for()
    page.wait_for_url(lambda url: "candidate=" not in url and "scan=scan-base" in url)
    settled(page)
    candidate = page.get_by_role("combobox", name="Candidate", exact=True)
    assert "0.28" in candidate.input_value()
