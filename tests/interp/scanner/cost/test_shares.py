"""How a budget is divided, and how work becomes seconds: properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.scanner.cost.clock import Clock
from interp.scanner.cost.shares import Need, divided, most_that
from interp.scanner.cost.work import Speed, Work, answers
from interp.scanner.leak.amplified import amplified
from interp.scanner.leak.grid import load_grid
from interp.scanner.search.budget import Budget
from interp.scanner.stages.leakage import work_of

SECONDS = st.floats(0, 1000)
NEEDS = st.lists(
    st.builds(
        lambda least, more, weight: Need(least, least + more, weight),
        SECONDS,
        SECONDS,
        st.floats(0, 5),
    ),
    min_size=1,
    max_size=9,
)


@given(NEEDS, SECONDS)
def test_no_more_is_given_than_there_is_and_never_less_than_the_least(needs, seconds):
    given_out, least = divided(seconds, needs), sum(need.least for need in needs)
    assert sum(given_out) <= max(seconds, least) + 1e-6
    for one, need in zip(given_out, needs, strict=True):
        assert need.least <= one <= need.whole + 1e-6
    whole = [need for need in needs if need.weight]
    if sum(need.whole for need in needs) <= seconds and len(whole) == len(needs):
        assert sum(given_out) == pytest.approx(sum(need.whole for need in needs))


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_the_largest_number_that_fits(limit, most, least):
    found = most_that(lambda n: n <= limit, most, least)
    assert found == max(least, min(most, limit))


def test_seconds_are_the_parts_of_the_work_times_their_speed():
    speed, work = Speed(1.0, 10.0, 100.0, 1000.0), Work(1, 2, 3, 4, 5)
    assert speed.seconds(work) == 1 + 20 + 300 + 4000 + 5
    assert speed.seconds(work + work * 2) == pytest.approx(3 * speed.seconds(work))
    asked = answers(130, 20, 24)
    assert asked.wide == 130 * 20 and asked.passes == 3 * 23 and asked.decoded == 130 * 23


def test_the_leaked_texts_are_counted_setting_by_setting():
    grid = load_grid("quick")
    settings = (*grid, *amplified(grid))
    drawn = sum(one.method != "beam" for one in settings)
    work = work_of(settings, 60)
    assert work.drawn >= 60 * drawn and work.decoded >= 59 * (drawn + 60)  # the original beside
    half = work_of(settings, 30)
    assert half.decoded / work.decoded == pytest.approx(29 / 59)


def test_without_a_budget_nothing_is_late_and_everything_fits():
    clock = Clock(speed=Speed(1, 1, 1, 1))
    assert not clock.late and clock.fits(Work(wide=1e9), kept=1e9)
    limited = Clock(now=lambda: 5.0, ends=10.0, until=7.0, speed=Speed(1, 1, 1, 1))
    assert limited.fits(Work(wide=2)) and not limited.fits(Work(wide=2), kept=0.1)
    limited.answered(Work(wide=10), 20.0)  # answers take twice as long as was measured
    assert limited.fits_answers(Work(wide=1)) and not limited.fits_answers(Work(wide=1.1))


def test_a_search_asks_its_budget_before_a_piece_only_where_it_knows_what_that_takes():
    seconds = [0.0]
    budget = Budget(100, 10.0, each=0.5, now=lambda: seconds[0])
    assert budget.holds(20) and not budget.holds(21)
    seconds[0] = 5.0
    assert budget.holds(10) and not budget.holds(11) and budget.spent == 0.5
    part = budget.part(2)
    assert part.seconds == 2.5 and part.holds(5) and not part.holds(6)
    assert Budget(seconds=0.001).holds(1e9)
