"""The first picture at once, on the shipped pair: labelled, not to be saved, and then whole."""

import pytest

from interp.__main__ import main
from interp.attention.saved import load
from interp.publish.csvtext import csv_text
from interp.runs.reading import open_run
from interp.specs import ROOT
from tests.support.browser import settled

pytestmark = pytest.mark.browser
UNFINISHED = ".st-key-unfinished-study"
SEED = "41"


def saved(page, name: str) -> str:
    """The tidy data of a figure, as its button gives it."""
    with page.expect_download() as download:
        page.locator(f".st-key-{name}-csv button").first.click()
    return download.value.path().read_text(encoding="utf-8")


def test_the_first_picture_is_labelled_and_the_last_is_the_commands(address, new_page, tmp_path):
    page = new_page()
    page.goto(f"{address}/heads?pair=deployment&seed={SEED}")
    label = page.locator(UNFINISHED)
    label.wait_for()
    assert "of 50 prompts so far" in label.inner_text()
    page.locator(".js-plotly-plot").first.wait_for()
    if label.count():  # it may be whole by now
        assert page.locator(".st-key-head-matrix-csv button").first.is_disabled()
    settled(page)
    assert page.locator(UNFINISHED).count() == 0
    words = ["heads", "--pair", "deployment", "--seed", SEED, "--strings", "0"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert saved(page, "head-matrix") == csv_text(load(open_run(tmp_path / "run")).ranking)


def test_the_default_question_is_answered_by_the_run_that_ships(address, new_page):
    page = new_page()
    page.goto(f"{address}/heads?pair=deployment")
    page.get_by_text("Answered by the recorded run 'heads-deployment'").wait_for()
    settled(page)
    shipped = load(open_run(ROOT / "assets/runs/heads-deployment"))
    assert saved(page, "head-matrix") == csv_text(shipped.ranking)
