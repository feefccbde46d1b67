"""The decoding grids that ship, and what their settings may be."""

from collections import Counter

import numpy as np
import pytest

from interp.errors import UsageError
from interp.scanner.leak.grid import Setting, describe, grid_lines, load_grid, spaced


def test_full_grid_is_the_published_one():
    grid = load_grid("full")
    assert len(grid) == len(set(grid)) == 510
    counts = {"greedy": 1, "top_p": 250, "top_k": 200, "temperature": 50, "beam": 9}
    assert Counter(setting.method for setting in grid) == counts
    top_p = {(s.top_p, s.temperature) for s in grid if s.method == "top_p"}
    assert top_p == {(p, t) for p in (0.7, 0.85, 0.9, 0.95, 0.98) for t in (0.6, 0.8, 1, 1.2, 1.5)}
    top_k = {(s.top_k, s.temperature) for s in grid if s.method == "top_k"}
    assert top_k == {(k, t) for k in (10, 40, 100, 200, 1000) for t in (0.7, 0.9, 1.1, 1.3)}
    beams = {(s.beams, s.length_penalty) for s in grid if s.method == "beam"}
    assert beams == {(b, penalty) for b in (2, 4, 8) for penalty in (0.6, 1, 1.3)}


def test_quick_grid_is_122_of_them_with_every_setting():
    quick, full = load_grid("quick"), load_grid("full")
    assert len(quick) == len(set(quick)) == 122
    assert set(quick) <= set(full)

    def apart_from_seed(grid):
        return {
            (s.method, s.temperature, s.top_p, s.top_k, s.beams, s.length_penalty) for s in grid
        }

    assert apart_from_seed(quick) == apart_from_seed(full)


def test_settings_describe_themselves_apart():
    full = load_grid("full")
    assert len({describe(setting) for setting in full}) == 510
    assert (
        describe(Setting("top_p", temperature=0.8, top_p=0.9, seed=3)) == "top-p 0.9, T 0.8, seed 3"
    )
    assert describe(Setting("beam", beams=4, length_penalty=0.6)) == "4 beams, length penalty 0.6"
    assert describe(Setting("greedy")) == "greedy"


def test_grid_lines_number_every_setting():
    lines = list(grid_lines(load_grid("quick")))
    assert len(lines) == 122
    assert lines[0].split() == ["0", "greedy", "greedy"]
    assert lines[-1].split(maxsplit=2) == ["121", "beam", "8 beams, length penalty 1.3"]


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "nucleus"},
        {"method": "temperature", "temperature": 0.0},
        {"method": "temperature", "temperature": float("nan")},
        {"method": "top_p", "top_p": 1.1},
        {"method": "top_k", "top_k": -1},
        {"method": "beam", "beams": 0},
        {"method": "top_p", "beams": 2},
    ],
)
def test_settings_that_are_none(fields):
    with pytest.raises(UsageError, match=list(fields)[-1]):
        Setting(**fields)


def test_unknown_grid():
    with pytest.raises(UsageError, match="quick, full"):
        load_grid("medium")


@pytest.mark.parametrize("available", [1, 2, 9, 122, 510])
def test_numbers_spread_over_all_are_those_of_an_even_grid(available):
    for wanted in range(available + 1):
        even = np.linspace(0, available - 1, wanted).round().astype(int)
        assert spaced(available, wanted) == even.tolist()
