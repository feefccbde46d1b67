"""The page Runs in a browser: save a run, delete it, bring it back, add it from its zip."""

import shutil

import pytest
from playwright.sync_api import expect

from interp.specs import ROOT
from tests.support.browser import running_app, settled

pytestmark = pytest.mark.browser


def test_a_run_goes_out_and_comes_back(browser, tmp_path):
    """An app of its own: what it changes would stand in the others' lists."""
    runs = tmp_path / "runs"
    shutil.copytree(ROOT / "assets/runs/dial-deployment", runs / "mine")
    with running_app(runs) as address:
        page = browser()
        page.goto(f"{address}/runs?pair=a+recorded+run+%E2%80%A6&chosen=mine")
        settled(page)
        with page.expect_download() as saving:
            page.get_by_role("button", name="Zip", exact=True).click()
        saved = tmp_path / saving.value.suggested_filename
        saving.value.save_as(saved)
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_role("button", name="Yes, delete it").click()
        page.get_by_text("mine is deleted").wait_for()
        chosen = page.get_by_role("combobox", name="Run", exact=True).last
        expect(chosen).not_to_have_value("mine")  # the list comes after the message
        assert not (runs / "mine").exists()
        page.get_by_role("button", name="Bring back").click()
        page.get_by_text("mine is back.").wait_for()
        expect(chosen).to_have_value("mine")
        assert (runs / "mine" / "run.json").is_file()
        page.get_by_text("Add a run from a zip").click()
        page.locator("input[type=file]").set_input_files(saved)
        page.get_by_role("button", name="Add it").click()
        page.get_by_text("mine-2 is added.").wait_for()
        page.get_by_role("button", name="Its figures").click()
        page.wait_for_url("**/figures?**of=mine-2**")
        page.wait_for_selector(".js-plotly-plot")
        page.close()
    assert [path.name for path in runs.iterdir() if path.name[0] == "."] == []  # nothing is left
