"""The Causes page as a person uses it: from the matrix to the card to surgery, a shipped pair."""

import pytest

from interp import neighbours
from interp.metrics import head_name
from tests.support.browser import click_cell, settled

pytestmark = pytest.mark.browser
TAKEN = "L2H3,L2H2,L2H7"
"""The first three by Δ_rel."""


def click_head(page, layer: int, head: int) -> None:
    click_cell(page, layer, head, rows=6, columns=8)


def choose_first_neighbour(page) -> None:
    """Click the box before the first row of the table of heads like this one."""
    table = page.get_by_role("region", name="Heads most like")
    table.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    table.click(position={"x": 17, "y": 52})


def put_clicks_on_the_table(page) -> None:
    """Until the control says so."""
    label = "adds it to the surgery selection"
    page.get_by_role("radio", name=label).click()
    page.locator(f"[role=radio][aria-checked=true]:has-text('{label}')").wait_for()
    settled(page)


def test_from_matrix_to_card_to_surgery(address, new_page):
    page = new_page()
    page.goto(f"{address}/causes?pair=deployment")
    settled(page)
    click_head(page, 4, 2)
    page.get_by_role("heading", name="Where L4H2 looks").wait_for()
    assert "head=L4H2" in page.url
    settled(page)
    like = neighbours("heads-deployment", "L4H2").iloc[0]  # the run that answers the page
    nearest = head_name(like["layer"], like["head"])
    choose_first_neighbour(page)
    page.get_by_role("heading", name=f"Where {nearest} looks").wait_for()
    assert f"head={nearest}" in page.url
    assert page.locator("[data-testid=stException]").count() == 0
    settled(page)
    page.locator(".js-plotly-plot").first.scroll_into_view_if_needed()
    put_clicks_on_the_table(page)
    assert "click=adds" in page.url
    click_head(page, 0, 3)
    page.get_by_text("1 of 48 heads").wait_for()
    assert "operate=L0H3" in page.url
    settled(page)
    metrics = page.locator("[data-testid=stMetric]").all_inner_texts()
    (asr,) = [text for text in metrics if text.startswith("ASR")]
    assert "before: 100%" in asr and "100% (" not in asr  # some prompts no longer fire
    assert page.locator("[data-testid=stAlert] >> visible=true").count() == 0
    page.get_by_role("button", name="Use these heads").click()
    page.get_by_text("3 of 48 heads").wait_for()
    page.wait_for_url("**operate=L2H3%2CL2H2%2CL2H7**")
    settled(page)  # field, link and command say the same heads
    assert page.get_by_role("textbox", name="Heads for surgery").input_value() == TAKEN
    page.locator(f"code:has-text('--heads {TAKEN}')").first.wait_for()
    page.get_by_role("button", name="Clear").click()
    page.wait_for_url(lambda url: "operate=" not in url)
