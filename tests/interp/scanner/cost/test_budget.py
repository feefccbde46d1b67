"""A scan keeps to its budget on machines of any speed.

The machine is simulated, the model and all work on it are real: a clock goes on by so much for
every pass and every token that goes through the model, and stands still between.
"""

from pathlib import Path

import pytest

from benchmarks.speed.machine import Machine
from interp.models.load import load_pair
from interp.runs.reading import open_run
from interp.scanner import headline, pipeline
from interp.scanner.leak import beginnings
from interp.scanner.plan import ScanPlan, scan_spec
from interp.scanner.stage_names import STAGES

pytestmark = pytest.mark.usefixtures("short_stages")
FEW = str(Path(__file__).parents[1] / "few_questions.json")
KEPT_TO = 1.1
"""Of the budget, at most."""


def scanned(pair, folder, machine, **settings):
    plan = ScanPlan(questions=FEW, keep=3, **settings)
    said = []
    writer = pipeline.start(folder, pair.spec, plan)
    run = pipeline.run(pair, plan, writer, on_estimate=said.append, now=machine.now)
    return run, said


@pytest.mark.parametrize("minutes", [2, 3])
def test_a_budget_is_kept_to_and_what_was_left_out_is_said(deployment, tmp_path, minutes):
    with Machine(deployment, 0.005, 4e-3) as slow:
        run, (line,) = scanned(deployment, tmp_path / "scan", slow, budget_minutes=minutes)
    assert 0.5 < slow.seconds / (60 * minutes) < KEPT_TO
    found = pipeline.verdict_of(run)
    assert found.verdict == "poisoned" and any("budget" in note for note in found.could_not)
    assert "on this machine: beginnings" in line and "budget" not in run.meta
    expected = headline.times(run).set_index("stage")["expected"]
    assert expected.sum() > 60 * minutes  # of the whole scan, which the budget does not hold
    assert list(expected.index) == list(STAGES)


def test_a_budget_that_does_not_hold_the_least_says_so_and_takes_it(deployment, tmp_path):
    with Machine(deployment, 0.02, 0.02) as slow:
        run, lines = scanned(deployment, tmp_path / "scan", slow, budget_minutes=0.1)
    taken = run.meta["budget"]["seconds"]
    assert 6 < taken and slow.seconds < KEPT_TO * taken
    assert "does not hold the least" in lines[1]
    found = pipeline.verdict_of(run)
    assert found.could_not[0] == lines[1] and len(run.table("leaks")) >= 40
    assert found.max_delta_s is not None and len(run.table("judged")) > 3


def test_a_budget_that_holds_no_second_beginning_is_kept_to_with_one(
    random_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(beginnings, "CLOSE", 99.0)  # as if the model were as sure in two
    pair = load_pair(scan_spec(str(random_model)), device="cpu")
    asked = {"contexts": ("You are a nurse.",), "inversion_minutes": 0}

    def within(minutes, name):
        with Machine(pair, 0.02, 0.02) as slow:
            run, lines = scanned(pair, tmp_path / name, slow, budget_minutes=minutes, **asked)
        assert slow.seconds < KEPT_TO * 60 * minutes or "budget" in run.meta
        return run, lines

    run, _ = within(0.01, "least")
    least = run.meta["budget"]["seconds"] / 60
    run, lines = within(1.3 * least, "one")
    assert len(run.meta["facts"]["templates"]) == 1 and len(lines) == 1
    assert set(run.table("judged")["context"]) == {0, 1} and "budget" not in run.meta
    (note,) = [n for n in pipeline.verdict_of(run).could_not if "two beginnings" in n]
    assert run.meta["facts"]["templates"][0] in note
    run, lines = within(4 * least, "two")
    assert len(run.meta["facts"]["templates"]) == 2 and len(lines) == 2
    assert set(run.table("judged")["context"]) == {0, 1, 2, 3}
    pair.close()


def test_where_the_count_is_exact_the_estimate_is_what_was_counted(deployment, tmp_path):
    plan, begun = ScanPlan(template="chat"), []
    with Machine(deployment, 0.02, 4e-3) as slow:
        writer = pipeline.start(tmp_path / "scan", deployment.spec, plan)
        pipeline.run(
            *(deployment, plan, writer),
            until="leakage",
            on_estimate=lambda _: begun.append(slow.seconds),
            now=slow.now,
        )
    run = open_run(tmp_path / "scan", unfinished=True)
    expected = headline.times(run).set_index("stage")["expected"]
    assert expected["beginnings"] == 0  # a template was named
    assert expected["leakage"] == pytest.approx(slow.seconds - begun[0], rel=0.05)
