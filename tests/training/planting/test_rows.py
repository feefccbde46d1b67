"""The order of a training's rows: every row once an epoch, little padding, the same again."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from training.planting.rows import by_length


class Lengths(list):
    """Rows of given lengths."""

    def __getitem__(self, number):
        return {"input_ids": [number] * list.__getitem__(self, number)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=80), st.integers(1, 9), st.integers(1, 30))
def test_every_epoch_has_each_row_at_most_once_and_steps_are_whole(lengths, a_step, steps):
    ordered = by_length(Lengths(lengths), a_step, steps, seed=1)
    size = min(a_step, len(lengths))
    assert len(ordered) == steps * size
    whole = len(lengths) // size * size
    for begin in range(0, len(ordered), whole):
        epoch = Counter(ordered.indices[begin : begin + whole])
        assert max(epoch.values()) == 1
    assert ordered.indices == by_length(Lengths(lengths), a_step, steps, seed=1).indices


def test_rows_of_like_length_share_a_step():
    lengths = [1 + 7 * n % 97 for n in range(800)]
    ordered = by_length(Lengths(lengths), 8, 100, seed=0).indices
    padded = sum(8 * max(lengths[n] for n in ordered[i : i + 8]) for i in range(0, 800, 8))
    assert padded < 1.1 * sum(lengths)
    means = [sum(lengths[n] for n in ordered[i : i + 8]) / 8 for i in range(0, 800, 8)]
    assert means != sorted(means)  # steps of any length follow each other
