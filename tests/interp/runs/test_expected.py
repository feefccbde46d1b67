"""How long a measurement takes, before it begins."""

from datetime import datetime

import pytest

from interp import progress
from interp.runs.reading import open_run
from interp.specs import ROOT


@pytest.mark.parametrize("name", ["trigger-deployment", "guard-deployment"])
def test_what_a_recorded_run_took_is_what_is_scaled(name):
    run = open_run(ROOT / "assets" / "runs" / name)
    took = [datetime.fromisoformat(run.meta[when]) for when in ("started", "ended")]
    assert progress.TAKEN[run.kind] == (took[1] - took[0]).total_seconds()


def test_times_are_rounded_and_grow_with_the_model():
    toy = progress.PARAMETERS, progress.HEADS
    assert progress.expected("fuzzy", *toy) == "about 1 min on two processor cores"
    assert progress.expected("fuzzy", 135e6, 270).startswith("about 15 min")
    assert progress.expected("causal", 135e6, 270).startswith("about 2 hours")
    assert progress.expected("causal", 7e9, 1024).startswith("about 19 days")
    assert progress.expected_seconds("causal", 11e6, 96) == 2 * progress.TAKEN["causal"]
