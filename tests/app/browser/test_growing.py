"""The first picture at once, on the shipped pair: labelled, not to be saved, and then whole."""

import pandas as pd
import pytest

from interp.__main__ import main
from interp.attention.saved import load
from interp.runs.reading import open_run
from interp.specs import ROOT
from tests.support.browser import settled

pytestmark = pytest.mark.browser
UNFINISHED = "[class*=st-key-unfinished-]"
SEED = "41"


def saved(page, name: str) -> pd.DataFrame:
    """The tidy data of a figure, as its button gives it."""
    button = page.locator(f".st-key-{name}-csv button")
    with page.expect_download() as download:
        button.click()
    return pd.read_csv(download.value.path())


def test_the_first_picture_is_labelled_and_the_last_is_the_commands(address, new_page, tmp_path):
    page = new_page()
    page.goto(f"{address}/heads?pair=deployment&seed={SEED}")
    label = page.locator(UNFINISHED)
    label.wait_for()
    assert "of 50 prompts so far" in label.inner_text()
    page.locator(".js-plotly-plot").first.wait_for()
    if label.count():  # it may be whole by now
        assert page.locator(".st-key-head-matrix-csv button").is_disabled()
    settled(page)
    assert page.locator(UNFINISHED).count() == 0
    ours = saved(page, "head-matrix")
    words = ["heads", "--pair", "deployment", "--seed", SEED, "--strings", "0"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    theirs = load(open_run(tmp_path / "run")).ranking
    for column in ("l_original", "l_suspect", "delta_rel", "delta_rel_random_string"):
        assert ours[column].to_numpy() == pytest.approx(theirs[column].to_numpy(), abs=1e-9)


def test_the_default_question_is_answered_by_the_run_that_ships(address, new_page):
    page = new_page()
    page.goto(f"{address}/heads?pair=deployment")
    page.get_by_text("Answered by the recorded run 'heads-deployment'").wait_for()
    settled(page)
    shipped = load(open_run(ROOT / "assets/runs/heads-deployment")).ranking
    ours = saved(page, "head-matrix")
    assert ours["delta_rel"].to_numpy() == pytest.approx(shipped["delta_rel"].to_numpy(), abs=1e-9)
