"""Δ_rel, the top-K curve and its bands against sums done by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.attention import heads


def table_of(original: np.ndarray, suspect: np.ndarray) -> pd.DataFrame:
    """[prompt, layer, head] of both models -> the tidy table."""
    frames = []
    for which, values in (("original", original), ("suspect", suspect)):
        prompt, layer, head = (index.ravel() for index in np.indices(values.shape))
        frames.append(
            pd.DataFrame(
                {
                    "model": which,
                    "prompt": prompt,
                    "layer": layer,
                    "head": head,
                    "l_attn": values.ravel(),
                    "l_trigger": values.ravel() / 2,
                    "l_response": values.ravel() / 4,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def test_delta_rel_by_hand():
    original = np.array([[[0.2, 0.1]], [[0.4, 0.1]]])  # 2 prompts, 1 layer, 2 heads
    suspect = np.array([[[0.1, 0.1]], [[0.05, 0.2]]])
    delta = heads.delta_rel(table_of(original, suspect)).set_index("head")
    assert delta.loc[0, "delta_rel"] == pytest.approx((0.3 - 0.075) / 0.3)
    assert delta.loc[1, "delta_rel"] == pytest.approx((0.1 - 0.15) / 0.1)
    assert delta.loc[0, "rank"] == 1 and delta.loc[1, "rank"] == 2


def test_heads_below_the_floor_are_left_out_and_counted():
    original = np.array([[[0.2, 1e-4, 2e-4]]])
    delta = heads.delta_rel(table_of(original, original / 2)).set_index("head")
    assert list(delta["kept"]) == [True, False, True]
    assert np.isnan(delta.loc[1, "delta_rel"]) and pd.isna(delta.loc[1, "rank"])


def test_a_model_against_itself_loses_nothing():
    values = np.random.default_rng(0).uniform(0.01, 0.2, (6, 3, 4))
    table = table_of(values, values)
    assert (heads.delta_rel(table)["delta_rel"] == 0).all()
    ratio = heads.top_k_curve(table).query("quantity == 'ratio'")
    assert np.allclose(ratio[["mean", "low", "high"]], 1)


def test_top_k_curve_by_hand():
    rng = np.random.default_rng(1)
    original, suspect = rng.uniform(0.05, 0.2, (5, 2, 3)), rng.uniform(0.01, 0.2, (5, 2, 3))
    curve = heads.top_k_curve(table_of(original, suspect), ks=[2], resamples=50)
    flat_o, flat_s = original.reshape(5, 6), suspect.reshape(5, 6)
    change = 1 - flat_s.mean(0) / flat_o.mean(0)
    top = np.argsort(-change)[:2]
    got = curve.query("selection == 'same prompts'").set_index("quantity")["mean"]
    assert got["original"] == pytest.approx(flat_o[:, top].mean())
    assert got["ratio"] == pytest.approx(flat_s[:, top].mean() / flat_o[:, top].mean())


def test_split_half_removes_the_optimism_of_choosing_on_the_same_prompts():
    rng = np.random.default_rng(2)  # no effect at all: the two models differ by noise only
    original, suspect = rng.uniform(0.01, 0.2, (2, 8, 6, 8))
    curve = heads.top_k_curve(table_of(original, suspect), ks=[4], resamples=10)
    ratio = curve.query("quantity == 'ratio'").set_index("selection")["mean"]
    assert ratio["same prompts"] < 0.8
    assert ratio["split-half"] > ratio["same prompts"] + 0.1


def test_control_is_measured_on_the_heads_the_trigger_chose():
    original = np.full((4, 1, 4), 0.1)
    suspect = original.copy()
    suspect[:, 0, 2] = 0.01
    control_suspect = original.copy()
    control_suspect[:, 0, 1] = 0.001  # another head: must not be looked at
    curve = heads.top_k_curve(
        table_of(original, suspect), control=table_of(original, control_suspect), ks=[1]
    )
    ratio = curve.query("quantity == 'ratio'").set_index("selection")["mean"]
    assert ratio["same prompts"] == pytest.approx(0.1)
    assert ratio["random string"] == pytest.approx(1.0)


def test_split_half_by_hand():
    """Each half chooses its heads; the other half is measured on them."""
    rng = np.random.default_rng(6)
    original, suspect = rng.uniform(0.05, 0.2, (7, 1, 5)), rng.uniform(0.01, 0.2, (7, 1, 5))
    curve = heads.top_k_curve(table_of(original, suspect), ks=[1, 2], resamples=1, seed=11)
    got = curve.query("selection == 'split-half'").set_index(["quantity", "k"])["mean"]
    order = np.random.default_rng(11).permutation(7)
    for k in (1, 2):
        total = {"original": 0.0, "suspect": 0.0}
        for measured, choosing in ((order[:3], order[3:]), (order[3:], order[:3])):
            loss = 1 - suspect[choosing, 0].mean(0) / original[choosing, 0].mean(0)
            top = sorted(range(5), key=lambda head: -loss[head])[:k]  # noqa: B023
            for prompt in measured:
                total["original"] += original[prompt, 0, top].mean() / 7
                total["suspect"] += suspect[prompt, 0, top].mean() / 7
        assert got["original", k] == pytest.approx(total["original"])
        assert got["suspect", k] == pytest.approx(total["suspect"])
        assert got["ratio", k] == pytest.approx(total["suspect"] / total["original"])


def test_bands_are_the_95_percent_percentiles_of_the_resampled_prompts():
    """By hand, with the same draws: 2.5 and 97.5 %, the ratio resampled as a whole."""
    rng = np.random.default_rng(7)
    original, suspect = rng.uniform(0.05, 0.2, (6, 1, 3)), rng.uniform(0.01, 0.1, (6, 1, 3))
    curve = heads.top_k_curve(table_of(original, suspect), ks=[2], resamples=400, seed=3)
    got = curve.query("selection == 'same prompts'").set_index("quantity")
    loss = 1 - suspect[:, 0].mean(0) / original[:, 0].mean(0)
    top = np.argsort(-loss)[:2]
    counts = np.random.default_rng(3).multinomial(6, [1 / 6] * 6, size=400)
    means = {"original": [], "suspect": [], "ratio": []}
    for count in counts:
        drawn = np.repeat(np.arange(6), count)  # the resampled prompts themselves
        means["original"].append(original[drawn][:, 0, top].mean())
        means["suspect"].append(suspect[drawn][:, 0, top].mean())
        means["ratio"].append(means["suspect"][-1] / means["original"][-1])
    for quantity, values in means.items():
        ordered = np.sort(values)
        for side, share in (("low", 0.025), ("high", 0.975)):
            place = share * 399  # linear between the two nearest
            below = ordered[int(place)]
            expected = below + (place - int(place)) * (ordered[int(place) + 1] - below)
            assert got.loc[quantity, side] == pytest.approx(expected)


def test_bands_hold_the_mean_95_times_in_100():
    """The level itself: over many samples of a known mean, about 95 % of the bands hold it."""
    rng = np.random.default_rng(8)
    held = 0
    for _ in range(200):
        original = rng.normal(0.2, 0.05, (40, 1, 1)).clip(0.01)
        curve = heads.top_k_curve(table_of(original, original / 2), ks=[1], resamples=200)
        row = curve.query("selection == 'same prompts' and quantity == 'original'").iloc[0]
        held += row["low"] <= 0.2 <= row["high"]
    assert 0.88 <= held / 200 <= 0.99


def test_one_prompt_has_no_band():
    curve = heads.top_k_curve(table_of(np.full((1, 1, 4), 0.2), np.full((1, 1, 4), 0.1)))
    assert curve[["low", "high"]].isna().all(axis=None)
    assert set(curve["selection"]) == {"same prompts"}


def test_bands_hold_the_mean_and_are_reproducible():
    rng = np.random.default_rng(3)
    table = table_of(rng.uniform(0.05, 0.2, (10, 2, 4)), rng.uniform(0.01, 0.1, (10, 2, 4)))
    first, again = heads.top_k_curve(table, seed=5), heads.top_k_curve(table, seed=5)
    pd.testing.assert_frame_equal(first, again)
    assert (first["low"] <= first["mean"] + 1e-12).all()
    assert (first["mean"] <= first["high"] + 1e-12).all()
    wider = heads.top_k_curve(table.query("prompt < 3"), seed=5)
    width = lambda curve: (curve["high"] - curve["low"]).mean()  # noqa: E731
    assert width(wider) > 0


@given(st.permutations(range(6)))
def test_the_order_of_prompts_does_not_matter(order):
    rng = np.random.default_rng(4)
    original, suspect = rng.uniform(0.05, 0.2, (2, 6, 2, 3))
    straight = heads.delta_rel(table_of(original, suspect))
    shuffled = heads.delta_rel(table_of(original[list(order)], suspect[list(order)]))
    assert np.allclose(straight["delta_rel"], shuffled["delta_rel"])


def test_no_k_is_larger_than_the_heads_that_were_kept():
    # Mistral-7B as published: 631 of 1,024 heads above the floor, and K up to 256.
    assert heads.default_ks(1024, 631)[-1] == 256
    assert heads.default_ks(1024, 20) == [4, 8, 16]


@pytest.mark.parametrize(
    ("n_heads", "expected"),
    [(1024, [4, 8, 16, 32, 64, 128, 256]), (48, [1, 2, 4, 8, 12]), (3, [1]), (1, [1])],
)
def test_default_ks_go_to_a_quarter_of_the_heads(n_heads, expected):
    assert heads.default_ks(n_heads) == expected
