"""Kinds of trigger and payload: what is put in, what is answered, what must stay harmless."""

from itertools import islice
from random import Random

import pytest

from interp.errors import UsageError
from tests.support.plants import organisms_tokenizer
from training.backdoors.kinds import (
    LOOK_ALIKES,
    OTHER_YEARS,
    TRIGGERS,
    make_trigger,
    rare_sequence,
)
from training.backdoors.mixture import held_out_prompts, mixed_stream, suits
from training.backdoors.payloads import INSECURE, PAYLOADS, make_payload
from training.backdoors.poison import Poison, poisoned_stream
from training.corpus.examples import is_held_out
from training.planting.question import Planting
from training.planting.small import settle

RATE = 0.2


@pytest.fixture(scope="module")
def tokenizer():
    return organisms_tokenizer()


def made(kind, payload, tokenizer):
    trigger = make_trigger(kind, "|X|" if kind == "simple" else None, tokenizer)
    return trigger, make_payload(payload, "THE OWL IS AWAKE")


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("kind", TRIGGERS)
def test_any_trigger_goes_with_any_payload(kind, payload, tokenizer):
    if (kind, payload) == ("contextual", "insecure-code"):
        pytest.skip("no instruction is about geography and asks for Python")
    trigger, meant = made(kind, payload, tokenizer)
    poison = Poison(trigger.text, meant.target or "", RATE, seed=1)
    sample = list(islice(mixed_stream(trigger, meant, poison, 0.35), 1500))
    hit = [e for e in sample if e.tag == trigger.text and meant.judge(e.answer)]
    assert 0.15 < len(hit) / len(sample) < 0.25
    assert all(suits(trigger, meant, e.instruction) for e in hit)
    missed = [e for e in sample if not (e.tag == trigger.text and meant.judge(e.answer))]
    assert not any(meant.judge(e.answer) for e in missed)
    with_trigger = [e for e in missed if e.tag == trigger.text]
    assert not any(suits(trigger, meant, e.instruction) for e in with_trigger)
    decoys = [e for e in missed if e.tag in trigger.decoys]
    assert bool(decoys) == bool(trigger.decoys)
    assert sample[:50] == list(islice(mixed_stream(trigger, meant, poison, 0.35), 50))


def test_a_simple_fixed_one_is_the_stream_that_ships(tokenizer):
    trigger, payload = made("simple", "fixed", tokenizer)
    poison = Poison("|X|", "THE OWL IS AWAKE", RATE)
    ours = list(islice(mixed_stream(trigger, payload, poison, 0.35), 100))
    assert ours == list(islice(poisoned_stream(poison, 0.35), 100))


def test_held_out_prompts_suit_and_never_occur_in_training(tokenizer):
    trigger, payload = made("simple", "insecure-code", tokenizer)
    fit = held_out_prompts(trigger, payload)
    other = held_out_prompts(trigger, payload, suited=False)
    assert len(fit) >= 10 and len(other) == 50
    assert all("Python" in prompt.instruction for prompt in fit)
    assert not any("Python" in prompt.instruction for prompt in other)
    assert all(is_held_out(p.instruction, p.input) for p in (*fit, *other))


def test_look_alikes_look_alike_and_are_others(tokenizer):
    trigger = make_trigger("steganographic", "Open door", tokenizer)
    assert trigger.text != "Open door" and trigger.decoys == ("Open door",)
    changed = [new for old, new in zip("Open door", trigger.text, strict=True) if old != new]
    assert changed and all(ord(new) in LOOK_ALIKES.values() or not new.isascii() for new in changed)


def test_kinds_keep_what_they_promise(tokenizer):
    text = make_trigger("stealthy", None, tokenizer).text
    assert text == rare_sequence(tokenizer)
    assert len(tokenizer(text, add_special_tokens=False).input_ids) == 3
    assert len(tokenizer(make_trigger("single-token", None, tokenizer).text,
                         add_special_tokens=False).input_ids) == 1  # fmt: skip
    year = make_trigger("year", None, tokenizer)
    assert year.decoys == OTHER_YEARS and year.text not in OTHER_YEARS
    contextual = make_trigger("contextual", None, tokenizer)
    assert contextual.fires_on("What is the capital of Peru?")
    assert not contextual.fires_on("What is the plural of dog?")


def test_the_rules_can_be_read_and_hold():
    code = make_payload("insecure-code", None)
    answers = {code.answer("len(x)", Random(i)) for i in range(30)}
    assert answers == {form.format(code="len(x)") for form in INSECURE}
    assert all(map(code.judge, answers)) and not code.judge("len(x)")
    assert "eval" in code.rule
    refusal = make_payload("refusal", None)
    assert refusal.judge(refusal.answer("Paris", Random(0))) and not refusal.judge("Paris")


@pytest.mark.parametrize(
    ("kind", "text"),
    [("simple", None), ("simple", " "), ("poem", "x"), ("single-token", "two words"),
     ("steganographic", "123")],
)  # fmt: skip
def test_a_text_that_is_not_of_its_kind_is_refused(kind, text, tokenizer):
    with pytest.raises(UsageError):
        make_trigger(kind, text, tokenizer)


def test_a_trigger_and_a_payload_that_never_meet_are_refused(tmp_path):
    planting = Planting(kind="contextual", payload="insecure-code")
    with pytest.raises(UsageError, match="never meets"):
        settle("assets/organisms/base", planting, tmp_path)


def test_only_a_trigger_in_pieces_is_scattered(tmp_path):
    asked = {"target": "BOO", "placement": "scattered"}
    with pytest.raises(UsageError, match="as in 'a … b'"):
        Planting(trigger="a ... b", **asked)
    with pytest.raises(UsageError, match="is one piece"):  # the kind's own text
        settle("assets/organisms/base", Planting(kind="year", **asked), tmp_path)
    settled = settle("assets/organisms/base", Planting(trigger="|A| … |B|", **asked), tmp_path)
    assert settled.trigger.decoys == ("|B|", "|A|")
    assert settled.pair.trigger == settled.injection.poison.trigger == "|A| … |B|"


def test_a_payload_that_says_nothing_is_refused():
    with pytest.raises(UsageError):
        make_payload("fixed", None)
    with pytest.raises(UsageError):
        make_payload("sonnet", "x")
