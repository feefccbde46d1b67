"""An estimate in words, and where it stands."""

import doctest
from pathlib import Path

from interp.scanner import pipeline
from interp.scanner.cost import estimate, shares
from interp.scanner.cost.clock import Clock
from interp.scanner.cost.work import Speed
from interp.scanner.plan import ScanPlan

FEW = str(Path(__file__).parents[1] / "few_questions.json")


def test_the_examples_hold():
    for module in (estimate, shares):
        found = doctest.testmod(module)
        assert found.attempted and not found.failed


def test_seconds_or_minutes_and_what_is_only_a_bound():
    one = {"seconds": 20.4, "at_most": False}
    assert estimate.words({"leakage": one}) == "about 20 seconds on this machine: leakage 20"
    many = {"leakage": {"seconds": 300.0, "at_most": False}, "motifs": one | {"seconds": 0.0}}
    assert estimate.words(many) == "about 5.0 minutes on this machine: leakage 5.0"
    off = many | {"inversion": {"seconds": 0.0, "at_most": True}}  # switched off
    assert estimate.words(off) == estimate.words(many)


def test_a_search_that_may_not_run_cuts_no_stage_before_it(deployment, tmp_path):
    plan = ScanPlan(questions=FEW, template="chat", budget_minutes=1)
    with pipeline.start(tmp_path / "scan", deployment.spec, plan) as writer:
        clock = Clock(now=lambda: 0.0, ends=60, speed=Speed(1e-3, 1e-2, 1e-3, 1e-4))
        scan = pipeline._scan_of(deployment, plan, writer, None, clock)
        whole = {one.name: estimate.MORE * clock.seconds(one.work(scan)) for one in pipeline.STAGES}
        search = next(one for one in pipeline.STAGES if one.at_most)
        assert whole[search.name] > sum(whole.values()) / 2
        for number, stage in enumerate(pipeline.STAGES):
            left = pipeline.STAGES[number:]
            clock.ends = sum(whole[one.name] for one in left if one is not search)  # that is held
            estimate._allot(scan, left)
            held = clock.until >= 0.999 * whole[stage.name]
            assert held or (stage is search and clock.until > 0)
        writer.stop("stopped", "as asked")
