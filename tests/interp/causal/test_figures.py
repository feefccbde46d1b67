"""Figures of the causes from plain tables; agreement and concentration against hand and NumPy."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, spearmanr

from interp.causal.concentration import concentration, over_seeds, spread_of
from interp.causal.head_table import head_table
from interp.errors import UsageError
from interp.figures import causal
from interp.metrics import CAUSAL_METRICS
from interp.stats import agreement, agreements, holm, per_group

COLUMNS = ["prompt", "layer", "head", "metric", "value"]


@pytest.fixture(scope="module")
def heads():
    rng = np.random.default_rng(0)
    rows = [
        (prompt, layer, head, metric, rng.normal() + layer * head)
        for metric in ("patching_effect", "patching_kl", "indirect")
        for prompt in range(4)
        for layer in range(3)
        for head in range(4)
    ]
    return head_table({"patching": pd.DataFrame(rows, columns=COLUMNS)})


def test_a_matrix_of_any_metric_even_a_growing_one(heads):
    partial = heads.copy()
    partial.loc[partial["layer"] == 2, "patching_effect"] = np.nan
    drawn = causal.metric_matrix(partial, "patching_effect", selected=(1, 2)).to_dict()
    assert len(drawn["data"][1]["text"]) == 12 and "not measured yet" in drawn["data"][1]["text"][8]
    kl = causal.metric_matrix(heads, "patching_kl")
    assert kl.data[0].zmin == heads["patching_kl"].min()


def test_the_scatter_tells_rho_and_its_points_carry_their_head(heads):
    figure = causal.metric_scatter(heads, "patching_effect", "indirect", selected=(0, 1))
    rho = spearmanr(heads["patching_effect"], heads["indirect"]).statistic
    assert f"ρ = {rho:.2f}" in figure.layout.title.text and len(figure.data) == 2
    assert figure.data[0].customdata.tolist()[5] == [1, 1]
    found = agreement(heads, "patching_effect", "indirect")
    assert found.low <= found.rho <= found.high and found.n == 12
    assert "cannot be estimated" in str(
        agreement(heads.assign(indirect=1.0), "indirect", "patching_kl")
    )


def test_curves_and_strip(heads):
    curve = pd.DataFrame(
        [
            (name, n, "", 1 - n / 9, 0, 1, 0.96 - n / 90, 0.8, 1)
            for name in ("indirect", "random")
            for n in range(9)
        ],
        columns=["ranking", "n", "heads", "asr", "asr_low", "asr_high", "clean", "clean_low",
                 "clean_high"],
    )  # fmt: skip
    figure = causal.surgery_curve(curve, 48, max_asr=0.05, max_loss=0.02)
    names = [trace.name for trace in figure.data]
    assert names == [CAUSAL_METRICS["indirect"].label] * 2 + ["random"] * 2
    table = pd.DataFrame(
        [(o, n, p, 9.0 - n) for o in ("pattern_kl", "random 1", "random 2") for n in range(3)
         for p in range(2)],
        columns=["order", "n", "prompt", "kl"],
    )  # fmt: skip
    assert len(causal.cumulative_curve(table, 48).data) == 2
    tokens = pd.DataFrame(
        {
            "position": range(4),
            "token": ["<b>", "|X|", "a", "I"],
            "part": ["start", "trigger", "instruction", "answer"],
            "loss_original": [np.nan, 1, 2, 3],
            "loss_suspect": [np.nan, 1, 1, 0],
            "kl": [np.nan, 0, 0, 4],
        }
    )
    assert len(causal.token_strip(tokens).data[0].x) == 4
    assert len(causal.token_strip(tokens, answer_only=True).data[0].x) == 3


def test_concentration_by_hand():
    layers = np.array([0.0, 0, 1, 1])
    even = spread_of(np.ones((1, 4)), layers)
    one = spread_of(np.array([[0, 0, 0, -2.0]]), layers)
    assert even["gini"][0] == pytest.approx(0) and even["top_share"][0] == 0.25
    assert even["centre"][0] == 0.5
    assert one["gini"][0] == 0.75 and one["top_share"][0] == 1 and one["centre"][0] == 1


@given(st.lists(st.floats(0.01, 9), min_size=2, max_size=30))
def test_gini_is_the_mean_difference_over_twice_the_mean(values):
    sizes = np.array(values)
    expected = np.abs(sizes[:, None] - sizes[None]).mean() / (2 * sizes.mean())
    assert spread_of(sizes[None], np.zeros(len(sizes)))["gini"][0] == pytest.approx(expected)


def test_concentration_over_prompts_and_seeds():
    rng = np.random.default_rng(1)
    tables = {}
    for name, scale in (("seed 0", 1.0), ("seed 1", 5.0)):
        rows = [
            (p, layer, head, "indirect", scale * (layer == 2 and head == 1) + rng.normal(0, 0.05))
            for p in range(6)
            for layer in range(3)
            for head in range(4)
        ]
        tables[name] = pd.DataFrame(rows, columns=COLUMNS)
    found = concentration(tables["seed 0"], "indirect").set_index("quantity")
    assert (found["low"] <= found["high"]).all() and found.loc["top_share", "mean"] > 0.6
    seeds = over_seeds(tables, "indirect")
    every = seeds[seeds["injection"] == "all"].set_index("quantity").loc["top_share"]
    assert every["low"] == pytest.approx(found.loc["top_share", "mean"]) and every["high"] > 0.9
    with pytest.raises(UsageError, match="was not measured"):
        concentration(tables["seed 0"], "delta_rel")


def heads_in_groups(n_groups: int, per_group: int, seed: int) -> pd.DataFrame:
    """Two metrics that know nothing of each other, alike within a key-value group."""
    rng = np.random.default_rng(seed)
    rows = [(layer, head) for layer in range(2) for head in range(n_groups * per_group // 2)]
    shared = rng.normal(size=(n_groups, 2)).repeat(per_group, axis=0)
    values = shared + 0.05 * rng.normal(size=(len(rows), 2))
    return pd.DataFrame(rows, columns=["layer", "head"]).assign(a=values[:, 0], b=values[:, 1])


def test_heads_of_one_group_are_no_independent_ones():
    """Where nothing is related p is uniform, if groups are shuffled as wholes; else it is not."""
    p = {
        size: np.array(
            [agreement(heads_in_groups(12, 4, seed), "a", "b", per_group=size).p
             for seed in range(40)]
        )
        for size in (1, 4)
    }  # fmt: skip
    assert kstest(p[4], "uniform").pvalue > 0.01
    assert kstest(p[1], "uniform").pvalue < 0.01  # what treating heads alike would claim
    assert agreement(heads_in_groups(12, 4, 0), "a", "b", per_group=4).groups == 12


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9, np.nan])[:2].tolist() == pytest.approx([1.0, 1.0])
    assert np.isnan(holm([np.nan])).all()
    frame = heads_in_groups(12, 4, 1).assign(c=lambda t: t["a"] ** 3)
    table = agreements(frame, [("a", "b"), ("a", "c")], per_group=4)
    assert table["rho"].iloc[1] == pytest.approx(1)
    assert (table["p_holm"] >= table["p"]).all()


def test_groups_are_read_off_a_run():
    assert per_group({"n_heads": 8, "n_kv_heads": 2}) == 4
    assert per_group({"n_heads": 8}) == 1 == per_group(None)
    assert per_group({"n_heads": 8, "n_kv_heads": 0}) == 1
