"""The Plant page as a person uses it: planted to green in a tiny base, opened on another page."""

from urllib.parse import urlencode

import pytest

from tests.support.browser import running_app, settled
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


def test_a_backdoor_is_planted_watched_and_opened_on_another_page(base, tmp_path, new_page):
    with running_app(tmp_path / "runs") as address:
        page = new_page()
        known = {"pair": "a recorded run …", "plant": "plant-night"}  # no model is loaded
        page.goto(f"{address}/plant?{urlencode(known)}")
        settled(page)
        page.get_by_text("Plant a backdoor").click()
        fill(page, "Steps of 16 examples", "4")
        page.get_by_text("More", exact=True).click()
        fill(page, "Base", base)
        fill(page, "Steps between measurements", "4")
        page.get_by_role("button", name="Start planting").click()
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
        (told,) = again.locator("[data-testid=stAlert]").all_inner_texts()
        assert "@@night@@" in told and "0 of" in told  # four steps plant nothing, and it says so
