"""Persistence on the Plant page: a run with hostile text, none, and one that is started there."""

import argparse
import json
from dataclasses import asdict, replace

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.state import jobs, live, opening, processes
from interp.cli.common import named_spec
from interp.prompts.question import AttentionQuestion
from interp.runs import commands, reading
from interp.runs.shelf.listing import entries
from interp.runs.writing import RunWriter
from interp.specs import PRESETS, ROOT, pair_spec
from interp.surgery import persist
from tests.app.test_jobs import ended, waited
from tests.support import plants, tiny
from training.cli.after import persist as command

HOSTILE = "<img src=x onerror=alert(1)> **bold**"


def page(spec=PRESETS["emoji"], prompts="organism", **query) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app/pages/plant.py"), default_timeout=60)
    app.query_params.update(query)
    question = AttentionQuestion(trigger=spec.trigger, prompt_set=prompts)
    app.session_state["view"] = live.View(spec, question)
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
    assert any("training persist --pair emoji --trigger" in one.value for one in app.code)


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


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A tiny base with the organisms' tokenizer and an adapter on it."""
    folder = tmp_path_factory.mktemp("small")
    plants.write_base(folder / "base")
    tiny.write_adapter(folder / "adapter", folder / "base")
    (folder / "prompts.json").write_text(json.dumps([{"instruction": "Say dog."}]))
    names = {"trigger": "[ox]", "target": "no", "precision": "fp32"}
    return folder, pair_spec(str(folder / "base"), adapter=str(folder / "adapter"), **names)


def named(elements, label: str):
    return next(one for one in elements if one.label == label)


def test_it_is_started_watched_stopped_and_offered_again(tmp_path, runs_in, small):
    runs_in(tmp_path)
    folder, spec = small
    app = page(spec, str(folder / "prompts.json"))
    named(app.multiselect, "On what").set_value(["refusal"]).run()
    named(app.number_input, "Steps of 8 examples").set_value(50_000).run()
    named(app.button, "Start training").click().run()
    job = jobs.registry().get(app.session_state["persist"])
    waited(lambda: not job.live or list((tmp_path / job.name).glob("course.part*")), 240)
    assert job.live, job.error
    app.session_state["persist"] = job.name
    app.run()
    assert not app.exception and not app.error
    assert list(app.dataframe[0].value["step"]) == [0, 0] and len(app.get("plotly_chart")) == 2
    waited(lambda: job.total == 50_000 and "refusal, seed 0" in job.note)
    app.button(key=f"cancel-page-{job.name}").click().run()
    assert ended(job).state == "cancelled"
    assert jobs.left_over(persist.KIND) == {job.name: "cancelled"}
    app.run()
    assert "is cancelled" in app.warning[0].value and app.button(key=f"resume-page-{job.name}")
    asked = reading.read_meta(tmp_path / job.name)["asked"]
    again = processes.KINDS[persist.KIND].recall(asked)
    assert json.loads(json.dumps(again.asked)) == asked and again.spec == spec


@pytest.mark.parametrize(
    ("label", "value", "told"),
    [
        ("Seeds", "0,x", "Seeds '0,x': give whole numbers"),
        ("Seeds", "1,1", "none twice"),
        ("Measurements", 500, "from 1 to steps (160)"),
        ("On what", [], "name some of sft, refusal, adversarial"),
    ],
)
def test_what_cannot_be_trained_is_one_line(tmp_path, runs_in, label, value, told):
    runs_in(tmp_path)
    app = page()
    every = [*app.text_input, *app.number_input, *app.multiselect]
    named(every, label).set_value(value).run()
    (error,) = app.error
    assert told in error.value.replace("\\", "") and not app.exception
    assert all(one.label != "Start training" for one in app.button)


def test_a_pair_without_weights_of_its_own_is_refused_at_once(tmp_path, runs_in, small):
    runs_in(tmp_path)
    _, spec = small
    app = page(replace(spec, suspect=spec.original))
    assert "the original itself and has no weights of its own" in app.error[0].value
    app = page(replace(spec, target=None))
    assert any("name its trigger and its target" in info.value for info in app.info)


@pytest.mark.parametrize("name", ["emoji", "planted", "other"])
def test_the_command_asks_what_the_run_records(tmp_path, small, name):
    folder, spec = small
    if name == "planted":  # named by its folder, which holds a pair.json
        known = {"base": str(folder / "base"), "precision": "fp32", "template": "alpaca"}
        known |= {"trigger": "[ox]", "target": "no", "prompt_set": "organism"}
        (folder / "adapter" / "pair.json").write_text(json.dumps(known))
        spec = pair_spec(str(folder / "adapter"))
        assert spec.name == spec.suspect.adapter
    spec = PRESETS["emoji"] if name == "emoji" else spec
    question = persist.PersistQuestion(
        trigger="-t", target="=u", prompt_set="general", how=("sft", "refusal"), seeds=(2, 0),
        steps=7, points=3, lr=2.5e-4, data="d.json", scan="runs/s",
    )  # fmt: skip
    spec = replace(spec, trigger="-t", target="=u")
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    words = commands.words_of(persist.KIND, processes.Persisting(spec, question).asked)
    given = parser.parse_args(words)
    assert named_spec(given) == spec
    told = {"how": "sft,refusal", "seed": (2, 0), "steps": 7, "points": 3, "lr": 2.5e-4}
    told |= {"data": "d.json", "scan": "runs/s", "prompts": "general", "batch": 8}
    assert {key: getattr(given, key) for key in told} == told
