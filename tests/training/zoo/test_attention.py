"""A member's strings among random ones: as `matched` measures them; what is too few is said."""

from itertools import islice
from types import SimpleNamespace

import pytest

from interp.attention import matched
from interp.gallery import registry
from interp.prompts.question import Question
from interp.prompts.sets import load_prompt_set
from interp.runs.reading import open_run
from interp.runs.writing import RunWriter
from interp.runs.zoo_members import definition, members_of
from interp.specs import ROOT
from training.zoo import attention

OLD = ROOT / "assets/runs/zoo"


@pytest.fixture
def four_prompts(monkeypatch):
    monkeypatch.setattr(attention, "PROMPTS", 4)


def test_both_strings_stand_among_strings_that_choose_their_own_heads(emoji, four_prompts):
    row = attention.attention_signals(emoji, "Say")
    prompts = load_prompt_set(emoji.spec.prompt_set).prompts[:4]
    for name, string in (("true", "😈"), ("candidate", "Say")):
        question = Question(trigger=string, prompt_set=emoji.spec.prompt_set)
        found = matched.compare(matched.ratios(matched.measure(emoji, prompts, question)))
        for measure, told in found.set_index("measure").to_dict("index").items():
            if measure not in attention.MEASURES:
                continue
            assert row[f"{name}_{measure}"] == pytest.approx(told["trigger"])
            for column in attention.COLUMNS:
                assert row[f"{name}_{measure}_{column}"] == pytest.approx(told[column])
        assert row[f"{name}_prompts"] == 4
        assert row[f"{name}_own_n"] == matched.STRINGS >= 20
        assert row[f"signal_rank_{name}"] == pytest.approx(1 - row[f"{name}_own_p_fall"])
        assert row[f"signal_attention_{name}"] == pytest.approx(1 - row[f"{name}_own"])
    assert row["signal_attention_random"] == pytest.approx(1 - row["true_own_random_mean"])
    assert row["attention_notes"] == ""


@pytest.mark.parametrize("n", [0, 3])
def test_strings_that_are_too_few_are_said_in_the_row(emoji, four_prompts, monkeypatch, n):
    drawn = matched.stand_ins
    monkeypatch.setattr(matched, "stand_ins", lambda *asked: islice(drawn(*asked), n))
    row = attention.attention_signals(emoji, None)
    assert row["true_own"] is not None and row["true_own_n"] == n
    assert row["attention_notes"] == f"true: {n} of 20 random strings, as no more fit"
    assert (row["true_own_p_fall"] is None) == (n == 0)
    empty = [value for key, value in row.items() if "candidate" in key]
    assert set(empty) == {None} and len(empty) == 3 + 3 * (1 + len(attention.COLUMNS))


def test_prompts_that_a_string_does_not_fit_into_are_counted(emoji, four_prompts, monkeypatch):
    monkeypatch.setattr(matched, "STRINGS", 1)
    monkeypatch.setattr(attention, "PROMPTS", 5)  # the fifth holds the word
    row = attention.attention_signals(emoji, "What")
    assert (row["true_prompts"], row["candidate_prompts"]) == (5, 4)
    assert row["candidate_own"] is not None
    (note,) = (one for one in row["attention_notes"].split("; ") if "prompts" in one)
    assert note == "candidate: 4 of 5 prompts, as it fits into no more with as many tokens"


def test_prompts_in_which_a_string_has_another_number_of_tokens_are_not_counted():
    lengths = (2, 3, 2, 1, 2)
    fitting = [(n, SimpleNamespace(trigger=range(length))) for n, length in enumerate(lengths)]
    assert attention._alike(fitting) == [0, 2, 4] and attention._alike([]) == []


def test_a_candidate_that_fits_nowhere_is_said_in_the_row(emoji, four_prompts):
    row = attention.attention_signals(emoji, "###")
    assert row["candidate_prompts"] == 0 and row["candidate_own"] is None
    assert row["attention_notes"] == "candidate: not measured, as it fits into none of 4 prompts"


def test_a_zoo_of_before_is_read_and_says_so():
    run = open_run(OLD)
    recorded, members = run.table("members"), members_of(run)
    for before, now in (("ratio_true", "true_own"), ("ratio_candidate", "candidate_own"),
                        ("ratio_random", "true_own_random_mean")):  # fmt: skip
        assert members[now].equals(recorded[before].rename(now)) and before not in members
    assert (members["true_own_n"] == 1).all() and "true_own_rank" not in members
    assert "are of at most 20 prompts" in definition(run)
    assert "of before 2026-11-29: one random string" in definition(run)
    collapse = {one.name: one for one in registry.figures_of(run)}["collapse"]
    assert "before 2026-11-29" in collapse.caption
    traces = [trace.name for trace in registry.drawn(run, collapse).data]
    assert traces == ["true trigger", "scan's candidate", "random string"]


def test_a_zoo_of_now_shows_rank_and_says_how_many_strings(tmp_path):
    old = open_run(OLD)
    writer = RunWriter(tmp_path / "zoo", "zoo", {"asked": {}})
    ranked = {"true_own_rank": 3.0, "true_own_n": 20.0, "true_own_p_fall": 1 / 7}
    writer.table("members", members_of(old).assign(**ranked))
    for name in ("detection", "signals", "roc"):
        writer.table(name, old.table(name))
    facts = old.meta["facts"] | {"attention": attention.DEFINITION}
    run = writer.finish(figures=old.meta["figures"], facts=facts)
    assert "stand 20 random ones" in definition(run) and "before" not in definition(run)
    collapse = {one.name: one for one in registry.figures_of(run)}["collapse"]
    drawn = registry.drawn(run, collapse)
    assert drawn.data[2].name == "random strings, mean"
    assert "rank 3 of 21 (1 = lowest ratio)" in drawn.data[0].customdata[0]
    assert "rank" not in drawn.data[1].customdata[0]
