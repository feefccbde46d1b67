"""Persistence on the Plant page: a run with hostile text, and none."""

from dataclasses import asdict

import pandas as pd
from streamlit.testing.v1 import AppTest

from app.state import live, opening
from interp.runs.shelf.listing import entries
from interp.runs.writing import RunWriter
from interp.specs import PRESETS, ROOT
from interp.surgery import persist

HOSTILE = "<img src=x onerror=alert(1)> **bold**"


def page(**query) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app/pages/plant.py"), default_timeout=60)
    app.query_params.update(query)
    app.session_state["view"] = live.View(PRESETS["emoji"], None)
    app.run()
    assert not app.exception
    return app


def recorded(folder):
    """A finished run of one way and seed, written by hand."""
    asked = persist.PersistQuestion(
        trigger=HOSTILE, target=HOSTILE, prompt_set="organism", how=("sft",), steps=10, points=1
    )
    rows = [
        ("sft", 0, step, name, value, value, value, 50)
        for step, asr in ((0, 1.0), (10, 0.25))
        for name in persist.MEASURED
        for value in (asr if name == "asr" else 0.0,)
    ]
    columns = ["how", "seed", "step", "quantity", "mean", "low", "high", "n"]
    known = {"pair": asdict(PRESETS["deployment"]), **asdict(asked)}
    writer = RunWriter(folder / "kept-on", persist.KIND, {"asked": known})
    writer.table("course", pd.DataFrame(rows, columns=columns))
    writer.finish(facts={"pair": "deployment"})


def test_a_run_is_shown_with_its_sentences_and_the_command_for_another(tmp_path, runs_in):
    runs_in(tmp_path)
    recorded(tmp_path)
    app = page(persist="kept-on")
    assert not app.error and len(app.get("plotly_chart")) == 2
    raw = " ".join(one.value for one in app.markdown)
    told = raw.replace("\\", "")
    assert "ASR 100 % → 25 %" in told and "Verdict: weakened." in told
    assert list(app.dataframe[0].value["asr"]) == [1.0, 0.25]
    assert HOSTILE in told and HOSTILE not in raw  # escaped, in the captions' provenance
    assert any("training persist --pair emoji --how" in one.value for one in app.code)


def test_without_a_run_the_command_is_shown(tmp_path, runs_in):
    runs_in(tmp_path)
    app = page()
    assert not app.error and not app.get("plotly_chart")
    assert any("training persist --pair emoji" in one.value for one in app.code)


def test_runs_opens_it_on_the_plant_page(tmp_path):
    recorded(tmp_path)
    (entry,) = entries(tmp_path, own=True)
    place = opening.place_of(entry, None)
    assert (place.page, place.choice) == ("plant", "persist")
