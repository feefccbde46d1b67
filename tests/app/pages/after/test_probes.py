"""The Probes page on the shipped pair and its recorded run."""

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.shell import shared
from interp.probes.question import KIND
from interp.runs.reading import open_run
from interp.specs import ROOT


@pytest.fixture(scope="module", autouse=True)
def fresh_caches():
    """Once: the tests then share the resident pair, as visits to a server do."""
    st.cache_data.clear()
    shared.forget()
    yield
    shared.forget()


def page(**query) -> AppTest:
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=240)
    app.query_params.update(query)
    app.switch_page("app/pages/after/probes.py").run()
    assert not app.exception
    return app


def charts(app) -> list[str]:
    return [chart.proto.id for chart in app.get("plotly_chart")]


def test_the_recorded_run_and_the_projection_of_a_typed_prompt():
    app = page(pair="deployment")
    assert not app.error and app.selectbox(key="probes").value == "probes-deployment"
    told = " ".join(one.value for one in app.markdown)
    assert "Generic probe" in told and "Transferred probe" in told
    assert "Guard on the found candidate" in told
    assert len(charts(app)) == 3  # curves, projection, guard
    app.text_input(key="probe-text").set_value("Name the capital of <b>Denmark</b>.").run()
    assert not app.error and len(charts(app)) == 3
    app.text_input(key="probe-text").set_value("word " * 900).run()
    assert "tokens" in app.error[0].value and len(charts(app)) == 2  # the others stay


def test_a_recorded_run_needs_no_models():
    app = page(pair="a recorded run …", run="heads-deployment")
    assert not app.error and len(charts(app)) == 2
    assert any("choose a pair" in one.value for one in app.info)


def test_a_pair_without_a_run_is_told_which_pair_has_one():
    app = page(pair="emoji")
    assert not app.error and not charts(app)
    told = [one.value.replace("\\", "") for one in app.info]
    assert any("There is one of deployment and of smollm2-deployment" in one for one in told)


def test_the_recorded_run_is_whole_and_says_nothing_of_this_machine():
    run = open_run(ROOT / "assets/runs/probes-deployment")
    assert run.kind == KIND and run.meta["facts"]["firing"]["suspect"] == [25, 25]
    text = (run.path / "run.json").read_text()
    assert str(ROOT) not in text and "/tmp" not in text
    area = run.table("auroc")
    assert set(area["model"]) == {"suspect", "original", "clean control"}
    assert ((0 <= area["auroc"]) & (area["auroc"] <= 1)).all()
