"""A round of the game by keyboard, and its link in another window."""

import pytest

from tests.support.browser import settled

pytestmark = pytest.mark.browser


def test_a_round_by_keyboard_and_its_link_opened_elsewhere(address, new_page):
    page = new_page()
    page.goto(f"{address}/game?round=3")
    settled(page)
    page.get_by_role("textbox", name="Your question").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Moves so far: 1").wait_for()
    settled(page)
    page.get_by_role("button", name="B", exact=True).focus()
    page.keyboard.press("Space")
    settled(page)
    page.get_by_role("button", name="Accuse").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**accused=B**")
    page.get_by_text("of 5 right after 1 move", exact=False).wait_for()
    other = new_page()
    other.goto(page.url)
    other.get_by_text("of 5 right after 1 move", exact=False).wait_for()
    assert "round=3" in page.url
