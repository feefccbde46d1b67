"""Parts of a page: what is drawn anew with a control, and what stands still."""

import copy
import json
import re
from pathlib import Path

import plotly
import pytest

from app.drawing import charts
from interp.gallery.registry import drawn, figures_of
from interp.runs.reading import open_run
from interp.specs import ROOT
from tests.support.browser import choose, settled

pytestmark = pytest.mark.browser
PLOTLY = Path(plotly.__file__).parent / "package_data/plotly.min.js"
# As Streamlit does it: the same figure again, with the width that its place turned out to have.
DRAWN_AGAIN = """async ([first, second]) => {
  const place = document.createElement('div');
  place.style.width = '900px';
  document.body.append(place);
  await Plotly.newPlot(place, first.data, first.layout);
  const notes = [...place.querySelectorAll('.annotation')];
  await Plotly.react(place, second.data, {...second.layout, width: 900});
  return [notes.length, notes.filter((note) => !note.isConnected).length];
}"""


@pytest.fixture
def pages(address, new_page):
    """Opens a page of the shared app; each in a session of its own."""

    def opened(path: str):
        page = new_page()
        page.goto(path if path.startswith("http") else f"{address}/{path}")
        settled(page)
        return page

    return opened


def corner(page) -> str:
    """What the sidebar says of the last run of the whole page."""
    return page.locator("[data-testid=stSidebar] .st-key-debug").inner_text()


def test_a_control_draws_its_figure_alone_and_the_link_follows(pages):
    page = pages("heads?pair=deployment&debug=1")
    before = corner(page)
    page.get_by_role("radio", name="L_attn suspect").click()
    matrix = page.locator(".st-key-head-matrix .js-plotly-plot")
    bar = re.compile(r"L\W?attn\W? suspect")  # set with a subscript
    matrix.get_by_text(bar).wait_for()
    page.wait_for_url("**metric=L_attn+suspect**")
    choose(page, "Head, largest loss of attention first", "L4H2")
    page.get_by_role("heading", name="Where L4H2 looks").wait_for()
    page.wait_for_url("**head=L4H2**")
    settled(page)
    assert "metric=L_attn+suspect" in page.url and corner(page) == before
    again = pages(page.url)
    assert again.get_by_role("heading", name="Where L4H2 looks").count() == 1
    again.locator(".st-key-head-matrix").get_by_text(bar).wait_for()


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


def test_what_streamlit_gives_twice_is_drawn_once(new_page):
    page = new_page()
    page.set_content("<main></main>")
    page.add_script_tag(path=str(PLOTLY))
    run = open_run(ROOT / "assets/runs/heads-deployment")
    figure = drawn(run, figures_of(run)[0])
    made = json.loads(charts.written_out(figure, charts.page_look(False), {}).to_json())
    with_meta = made | {"layout": made["layout"] | {"meta": figure.layout.meta}}
    once, twice = (
        page.evaluate(DRAWN_AGAIN, [one, copy.deepcopy(one)]) for one in (made, with_meta)
    )
    assert once == [len(figure.layout.annotations), 0]
    assert twice == [once[0], once[0]]  # what the test would see
