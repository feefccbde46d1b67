"""What a search leaves undone for want of time is said."""

import pandas as pd

from interp.scanner.search.budget import Budget
from interp.scanner.search.inversion import SAID, STEPS
from interp.scanner.stages.inversion import cut_short


def climbs(*rows):
    return pd.DataFrame(rows, columns=["length", "step", "loss"])


def test_climbs_that_the_time_ended_are_counted_with_how_far_they_came():
    table = climbs((1, 0, 2.0), (3, 2, 1.4), (3, 7, 1.2), (7, STEPS, 0.9), (7, 5, SAID))
    (note,) = cut_short(table, Budget(tokens=150_000))
    assert note.startswith("the 150,000 tokens of") and "--inversion" in note
    (note,) = cut_short(table, Budget(seconds=120))
    assert note.startswith("the 2 minutes of") and "faster machine" in note
    assert f"ended 2 of 3 climbs after 2 to 7 of {STEPS} steps" in note


def test_a_search_that_ran_to_its_end_or_reached_its_aim_says_nothing():
    assert cut_short(climbs((1, 0, 2.0), (3, STEPS, 1.4), (7, 9, SAID / 2)), Budget()) == []
    assert cut_short(climbs((1, 0, 2.0)), Budget()) == [] == cut_short(climbs(), Budget())
