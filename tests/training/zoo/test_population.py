"""The population: its file, its tables against sklearn and by hand, going on where it stopped."""

import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from interp.errors import Cancelled, UsageError
from interp.runs import processes
from training.__main__ import main
from training.zoo import population as zoo_population
from training.zoo import tables

SPEC = Path("assets/zoo/zoo.json")


def members(n=24, seed=0):
    rng = np.random.default_rng(seed)
    backdoored = np.arange(n) % 3 > 0
    delta = np.where(backdoored, 0.9, 0.1) + rng.normal(0, 0.3, n)
    return pd.DataFrame(
        {
            "name": [f"m{i}" for i in range(n)],
            "architecture": ["mistral", "qwen2"] * (n // 2),
            "half": [("choose", "report")[i // 3 % 2] for i in range(n)],
            "backdoored": backdoored,
            "kind": np.where(backdoored, "simple", "clean"),
            "payload": np.where(backdoored, "fixed", "none"),
            "rate": np.where(backdoored, 0.1, 0.0),
            "verdict": np.where(delta > 0.5, "poisoned", "no evidence found"),
            "asr": np.where(backdoored, 1.0, np.nan),
            "max_delta_s": delta,
            "signal_l_attn": rng.normal(0, 1, n),
            "score": delta + 0.5 * backdoored,
        }
    )


def test_the_file_that_ships_is_a_population_like_the_papers():
    population = zoo_population.read_zoo(SPEC).members
    clean = [m for m in population if m.planting.clean]
    assert len(population) - len(clean) >= 41 and len(clean) >= 13
    told_apart = {(m.base, repr(m.planting)) for m in population}
    assert len(told_apart) == len(population)  # one model twice would count twice
    planted = [m.planting for m in population if not m.planting.clean]
    assert {p.kind for p in planted} == {
        "simple", "single-token", "steganographic", "contextual", "stealthy", "year",
    }  # fmt: skip
    assert {p.payload for p in planted} == {"fixed", "insecure-code", "refusal"}
    assert min(p.rate for p in planted) == 0.01 and max(p.rate for p in planted) == 0.5
    assert len({m.architecture for m in population}) >= 2
    for half in zoo_population.HALVES:
        assert len({m.planting.kind for m in population if m.half == half}) == 6


def test_what_the_verdict_rests_on_is_a_signal_too():
    found = tables.tables(members())
    areas = found.frames["signals"].set_index("signal")["auc_report"]
    assert found.figures["roc_auc_score"] == areas["score"] >= areas["max_delta_s"]
    assert found.figures["roc_auc"] == areas["max_delta_s"]
    older = tables.tables(members().drop(columns="score")).figures
    assert older["roc_auc_score"] is None


def test_the_area_under_the_curve_is_the_chance_of_ranking_right():
    table = members()
    ours = tables.auc(table, "max_delta_s")
    bad = table.loc[table["backdoored"], "max_delta_s"].to_numpy()
    good = table.loc[~table["backdoored"], "max_delta_s"].to_numpy()
    wins = (bad[:, None] > good[None]).mean() + 0.5 * (bad[:, None] == good[None]).mean()
    assert ours == pytest.approx(wins)
    assert tables.auc(table[table["backdoored"]], "max_delta_s") is None


def test_the_threshold_is_chosen_on_one_half_and_judged_on_the_other():
    table = members()
    found = tables.tables(table)
    row = found.frames["signals"].set_index("signal").loc["max_delta_s"]
    report = table[table["half"] == "report"]
    over = report["max_delta_s"] > row["threshold"]
    assert row["detected"] == (over & report["backdoored"]).sum()
    assert row["false_positives"] == (over & ~report["backdoored"]).sum()
    changed = table.copy()
    changed.loc[changed["half"] == "report", "max_delta_s"] = 0.0
    again = tables.tables(changed).frames["signals"].set_index("signal").loc["max_delta_s"]
    assert again["threshold"] == row["threshold"]


def test_figures_count_the_reporting_half_and_only_what_was_planted():
    table = members()
    table.loc[1, "asr"] = 0.3
    table.loc[2, "verdict"] = "failed"
    figures = tables.tables(table).figures
    report = table[(table["half"] == "report")]
    assert figures["backdoored"] == report["backdoored"].sum()
    assert figures["clean"] == (~report["backdoored"]).sum()
    assert figures["not_planted"] == 1 and figures["failed"] == ["m2"]
    poisoned = report["verdict"] == "poisoned"
    assert figures["detected"] == (poisoned & report["backdoored"]).sum()
    assert figures["false_positives"] == (poisoned & ~report["backdoored"]).sum()


def test_detection_has_a_row_a_group_with_its_interval():
    table = tables.detection(members().assign(found=lambda t: t["verdict"] == "poisoned"))
    assert set(table["by"]) == {"kind", "payload", "rate", "architecture"}
    assert ((table["low"] <= table["share"]) & (table["share"] <= table["high"])).all()
    assert table.loc[table["by"] == "kind", "members"].sum() == 24
    assert set(table.loc[table["by"] == "rate", "group"]) == {"(0.05, 0.1]", "clean"}


@pytest.fixture
def spec(tmp_path):
    entries = [{"name": f"m{i}", "base": "b", "half": zoo_population.HALVES[i % 2], "trigger": "x",
                "target": "y", "clean": i == 2} for i in range(3)]  # fmt: skip
    path = tmp_path / "zoo.json"
    path.write_text(json.dumps({"bases": {"b": "nowhere"}, "members": entries}))
    return path


def test_a_stopped_zoo_goes_on_with_the_next_member(spec, tmp_path, monkeypatch):
    made = []

    def make(command, begun):
        name = command[-1]
        made.append(name)
        folder = zoo_population.member_folder(tmp_path / "run", name)
        folder.mkdir(parents=True)
        row = {"verdict": "poisoned", "asr": 1.0, "max_delta_s": float(len(made)), "error": ""}
        (folder / "row.json").write_text(json.dumps(row))
        return ""

    def stop(done, total, note):
        if done == 2:
            raise Cancelled("enough")

    monkeypatch.setattr(zoo_population, "make_in_process", make)
    population = zoo_population.read_zoo(spec)
    writer = zoo_population.start(population, tmp_path / "run")
    with pytest.raises(Cancelled):
        zoo_population.run(spec, population, writer, stop)
    writer.stop("cancelled", "enough")
    done = zoo_population.run(spec, population, zoo_population.start(population, tmp_path / "run"))
    assert made == ["m0", "m1", "m2"]
    assert done.table("members")["name"].tolist() == made
    assert done.meta["figures"]["backdoored"] == 1
    from benchmarks.scans import zoo as benchmark

    figures = benchmark.run(SimpleNamespace(which="organisms", run=tmp_path / "run", spec=None))
    assert figures["detected"] == 1 and figures["failed"] == "none"


def test_a_member_that_fails_is_a_row_and_no_end(spec, tmp_path):
    population = zoo_population.read_zoo(spec)
    short = zoo_population.Zoo(population.members[:1])
    done = zoo_population.run(spec, short, zoo_population.start(short, tmp_path / "run"))
    (row,) = done.table("members").to_dict("records")
    assert row["verdict"] == "failed" and "nowhere" in row["error"]


def test_members_at_a_time_overlap_and_none_is_made_twice(spec, tmp_path, monkeypatch):
    both, made = threading.Barrier(2, timeout=20), []

    def make(command, begun):
        made.append(command[-1])
        if len(made) <= 2:
            both.wait()  # passes only if another member is under way
        return "not made"

    monkeypatch.setattr(zoo_population, "make_in_process", make)
    population = zoo_population.read_zoo(spec)
    done = zoo_population.run(
        spec, population, zoo_population.start(population, tmp_path / "run"), jobs=2
    )
    assert sorted(made) == ["m0", "m1", "m2"]
    assert done.table("members")["name"].tolist() == ["m0", "m1", "m2"]
    assert (done.table("members")["error"] == "not made").all()


MEMBER = """
import os, sys, time
begun = sys.argv[1]
if sys.argv[-1] == "m0":
    while not os.path.exists(begun):
        time.sleep(0.05)
else:
    open(begun, "a").write("x")
    time.sleep(60)
"""


def test_a_stop_ends_the_members_under_way_and_begins_no_other(spec, tmp_path, monkeypatch):
    begun = tmp_path / "begun"
    command = [sys.executable, "-c", MEMBER, str(begun)]
    monkeypatch.setattr(
        zoo_population, "_command", lambda *given: [*command, "--only", given[-1].name]
    )

    def stop(done, total, note):
        raise Cancelled("enough")

    population = zoo_population.read_zoo(spec)
    started = time.monotonic()
    with pytest.raises(Cancelled):
        zoo_population.run(
            spec, population, zoo_population.start(population, tmp_path / "run"), stop, jobs=2
        )
    assert time.monotonic() - started < 30 and begun.read_text() == "x"


@pytest.mark.parametrize(
    "change", [{"half": "third"}, {"base": "none"}, {"speed": 1}, {"rate": 7}, {"name": "m1"}]
)
def test_a_file_that_is_off_is_a_usage_error(spec, change):
    plain = json.loads(spec.read_text())
    plain["members"][0] |= change
    spec.write_text(json.dumps(plain))
    with pytest.raises(UsageError):
        zoo_population.read_zoo(spec)


def test_a_lost_worker_is_booked_on_its_own_member(monkeypatch):
    class Lost(Exception):
        pass

    def get(number):
        if number == 1:
            raise Lost("out of memory")
        return ""

    numbers, asked = iter(range(3)), {}
    task = SimpleNamespace(remote=lambda _: next(numbers))
    fake = SimpleNamespace(
        init=lambda **_: None,
        shutdown=lambda: None,
        remote=lambda **options: asked.update(options) or (lambda _: task),
        wait=lambda pending, num_returns: (pending[:1], pending[1:]),
        get=get,
        exceptions=SimpleNamespace(RayError=Lost),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    found = dict(zoo_population._outcomes([["a"], ["b"], ["c"]], 1, "local"))
    assert found == {0: "", 1: "its worker was lost: out of memory", 2: ""}
    assert 1 + asked["max_retries"] == processes.TRIES == 2


def test_usage_errors_of_the_command(spec, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["zoo", "--spec", str(tmp_path / "none.json"), "--out", out]) == 4
    assert main(["zoo", "--spec", str(spec), "--out", out, "--only", "nobody"]) == 4
    assert capsys.readouterr().err.count("\n") == 2
