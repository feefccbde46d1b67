"""Jobs as a person starts them, on tiny models: a planting to its end, scans to their verdicts."""

from dataclasses import asdict
from urllib.parse import urlencode

import pytest

from interp.runs import reading
from interp.specs import ModelSpec
from tests.support import tiny
from tests.support.browser import settled
from tests.support.plants import write_base

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


def fill(page, label: str, text: str) -> None:
    box = page.get_by_label(label, exact=True)
    box.fill(text)
    box.press("Enter")
    settled(page)


def planting(page, address: str, base: str, steps: str) -> None:
    """Started from the form, without a model in memory."""
    known = {"pair": "a recorded run …", "plant": "plant-night"}
    page.goto(f"{address}/plant?{urlencode(known)}")
    settled(page)
    page.get_by_text("Plant a backdoor").click()
    fill(page, "Steps of 16 examples", steps)
    page.get_by_text("More", exact=True).click()
    fill(page, "Base", base)
    fill(page, "Steps between measurements", steps)
    page.get_by_role("button", name="Start planting").click()


def test_a_backdoor_is_planted_watched_and_opened_on_another_page(address, base, new_page):
    page = new_page()
    planting(page, address, base, "4")
    # Done: nothing is left to cancel, and the last measurement is of all prompts.
    page.get_by_role("button", name="Delete").wait_for(timeout=180_000)
    settled(page)
    assert page.get_by_role("button", name="Cancel").count() == 0
    assert page.get_by_role("slider", name="After step").get_attribute("aria-valuetext") == "4"
    page.get_by_role("button", name="Open on the other pages").click()
    page.get_by_text("open: choose a page above").wait_for()
    assert page.locator("[data-testid=stMain] [data-testid=stAlert]").count() == 0
    page.get_by_role("link", name="Heads").first.click()
    page.get_by_role("heading", name="Where L").wait_for()
    page.get_by_test_id("stSidebar").get_by_text("@@night@@").first.wait_for()
    link = page.url
    assert "planted=plant-night-" in link
    again = new_page()
    again.goto(link)
    again.get_by_role("heading", name="Where L").wait_for()
    settled(again)
    first, told = sorted(again.locator("[data-testid=stAlert]").all_inner_texts(), key=len)
    assert "No recorded run has this head." in first  # this server knows no other run
    assert "@@night@@" in told and "0 of" in told  # four steps plant nothing, and it says so


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


def started(page, button: str) -> None:
    """Press it, and wait until the page shows the scan that it starts, and that is over."""
    before = page.url
    page.get_by_role("button", name=button).click()
    page.wait_for_url(lambda url: "scan=scan-" in url and url != before)
    settled(page)
    page.get_by_role("button", name="Cancel").first.wait_for(state="detached", timeout=240_000)


def test_a_scan_from_start_to_verdict(address, runs_folder, tmp_path, new_page):
    base = tiny.write_model(tmp_path / "base", num_hidden_layers=1)
    adapter = tiny.write_adapter(tmp_path / "adapter", base)
    known = {"pair": "another pair …", "original": base, "adapter": adapter, "precision": "fp32"}
    page = new_page()
    page.goto(f"{address}/scanner?{urlencode(known)}")
    settled(page)
    page.get_by_text("Scan a model of the pair").click()
    minutes_of_inversion(page, "pair", "0")
    started(page, "Start the scan")
    verdict_of(page)
    page.get_by_role("heading", name="Leaked texts", exact=True).wait_for()
    assert page.locator("[data-testid=stException]").count() == 0
    page.get_by_text("Scan a model by its name or folder").click()
    minutes_of_inversion(page, "model", "0")
    page.get_by_role("button", name="Scan this model").click()
    page.get_by_text("name the model to scan").wait_for()
    page.get_by_role("textbox", name="Model (hub id, folder or .gguf file)").fill(str(base))
    started(page, "Scan this model")
    verdict_of(page)
    scans = [run for run in reading.list_runs(runs_folder) if run.kind == "scan"]
    first, second = sorted(scans, key=lambda run: run.meta["started"])
    assert first.meta["facts"]["model"]["adapter"] == str(adapter)
    assert second.meta["facts"]["model"] == asdict(ModelSpec(str(base)))
    for run in (first, second):
        assert run.meta["verdict"]["verdict"] in ("no evidence found", "inconclusive")


def test_a_running_job_has_one_cancel_button_on_every_page(address, base, new_page):
    """The last: what is cancelled may be left to be resumed, and then the pages say so."""
    page = new_page()
    planting(page, address, base, "1000")
    cancel = page.get_by_role("button", name="Cancel")  # of those that can be seen
    cancel.first.wait_for()
    settled(page)
    assert cancel.count() == 1 and page.get_by_test_id("stMain").locator(cancel).count() == 1
    page.get_by_role("link", name="Scanner").first.click()
    page.get_by_role("heading", name="Scanner").wait_for()
    settled(page)
    assert cancel.count() == 1 and page.get_by_test_id("stSidebar").locator(cancel).count() == 1
    cancel.click()
    cancel.wait_for(state="detached")
    settled(page)
    assert page.get_by_test_id("stSidebar").get_by_role("heading", name="Jobs").count() == 0
