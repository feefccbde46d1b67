"""Probes on synthetic activations: planted directions are found, noise is not."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from interp import stats
from interp.probes import fit, judged
from interp.probes.question import CONTROL

RNG = np.random.default_rng(3)
WIDTH = 48


def planted(n: int, direction: np.ndarray, size: float, rng) -> tuple[np.ndarray, np.ndarray]:
    """Residuals [n, 2 layers, 1 position, width]: shifted along it in layer 1 alone."""
    found = np.arange(n) % 2 == 0
    residuals = rng.standard_normal((n, 2, 1, WIDTH)).astype(np.float32)
    residuals *= np.linspace(0.2, 5, WIDTH, dtype=np.float32)  # dimensions of unlike size
    residuals[found, 1, 0] += size * direction
    return residuals, found


def test_a_planted_direction_is_recovered_and_noise_gives_a_half():
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(WIDTH) * np.linspace(0.2, 5, WIDTH)
    probe = fit.fit(*planted(400, direction, 0.8, rng))
    held, found = planted(400, direction, 0.8, rng)
    scores = probe.scores(held)[:, :, 0]
    areas = [fit.auroc(scores[found, layer], scores[~found, layer]) for layer in (0, 1)]
    assert abs(areas[0] - 0.5) < 0.1 and areas[1] > 0.97
    # In standardised activations the weights point where the shift does.
    scaled = probe.weight[1, 0] * probe.scale[1, 0], direction / probe.scale[1, 0]
    cosine = scaled[0] @ scaled[1] / np.linalg.norm(scaled[0]) / np.linalg.norm(scaled[1])
    assert cosine > 0.85


def test_scores_are_the_log_odds_of_the_fitted_model():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    residuals, found = planted(60, rng.standard_normal(WIDTH), 1, rng)
    one = residuals[:, 1, 0].astype(float)
    scaled = (one - one.mean(0)) / one.std(0)
    plain = LogisticRegression(C=fit.STRENGTH, class_weight="balanced", max_iter=1000)
    wanted = plain.fit(scaled, found).decision_function(scaled)
    got = fit.fit(residuals, found).scores(residuals)[:, 1, 0]
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_sides_of_unlike_number_weigh_the_same():
    rng = np.random.default_rng(5)
    residuals, found = planted(200, rng.standard_normal(WIDTH), 3, rng)
    few = np.flatnonzero(~found)[:10]
    chosen = np.r_[np.flatnonzero(found), few]
    said = fit.fit(residuals[chosen], found[chosen]).scores(residuals)[:, 1, 0]
    assert (said[found] > 0).mean() > 0.9 and (said[~found] < 0).mean() > 0.8


def test_a_resample_is_the_auroc_of_the_repeated_scores():
    triggered, clean = RNG.integers(0, 6, 15) * 1.0, RNG.integers(0, 5, 15) * 1.0  # with ties
    counts = stats.resample(15, 0, 20)
    for count, got in zip(counts, fit.resampled(triggered, clean, counts), strict=True):
        said = np.r_[np.repeat(triggered, count), np.repeat(clean, count)]
        assert got == pytest.approx(roc_auc_score(np.arange(30) < 15, said))


def test_random_directions_are_even_in_standardised_activations():
    scale = np.broadcast_to(np.linspace(0.01, 100, WIDTH, dtype=np.float32), (1, 1, WIDTH))
    drawn = np.stack([fit.random_probe(scale, n).weight[0, 0] * scale[0, 0] for n in range(300)])
    assert np.allclose(drawn.std(0), 1, atol=0.2) and abs(drawn.mean()) < 0.05
    assert not np.array_equal(drawn[0], drawn[1])
    again = fit.random_probe(scale, 7).weight
    assert np.array_equal(again, fit.random_probe(scale, 7).weight)


def scores_of(shifts: dict[str, float], n: int = 40) -> pd.DataFrame:
    """Scores of both probes in 2 layers, shifted by the trigger as given per model."""
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((n, 2))
    rows = [
        (model, fitted, probe, layer, "last", prompt, condition, value + shift)
        for model, size in shifts.items()
        for fitted in ("suspect", "own")[: 1 + (model != "suspect")]
        for probe in ("generic", "transferred")
        for layer in range(2)
        for condition, shift in (("triggered", size), ("clean", 0.0))
        for prompt, value in enumerate(noise[:, int(condition == "clean")])
    ]
    columns = ["model", "fitted", "probe", "layer", "position", "prompt", "condition", "score"]
    return pd.DataFrame(rows, columns=columns)


def random_of(models, spread: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    rows = [
        (model, layer, "last", n, 0.5 + spread * (rng.random() - 0.5))
        for model in models
        for layer in range(2)
        for n in range(50)
    ]
    return pd.DataFrame(rows, columns=["model", "layer", "position", "direction", "auroc"])


def told(shifts: dict[str, float], spread: float = 0.0, placement="prefix") -> list[str]:
    scores, random = scores_of(shifts), random_of(shifts, spread)
    area, more = judged.auroc(scores, 0), judged.excess(scores, random, 0)
    assert (area["low"] <= area["auroc"]).all() and (area["auroc"] <= area["high"]).all()
    assert len(more) == 2 * 2 * 2 * (len(shifts) - 1)  # ways of fitting, probes, layers
    return judged.sentences(
        area, more, judged.band(random), {"n_layers": 2, "placement": placement}
    )


def test_the_words_follow_the_numbers():
    """The same suspect, judged against originals and controls that see less, or as much."""
    alone = told({"suspect": 2.5, "original": 0.0, CONTROL: 0.0})
    assert all("more than the trigger's text and a clean fine-tuning explain" in t for t in alone)
    *same, placed = told({"suspect": 2.5, "original": 0.0, CONTROL: 0.0}, placement="after")
    assert same == alone and "placement after" in placed and "can see nothing" in placed
    reads = told({"suspect": 2.5, "original": 2.5, CONTROL: 0.0})
    assert all("not clearly above the original's." in text for text in reads)
    tuned = told({"suspect": 2.5, "original": 0.0, CONTROL: 2.5})
    assert all("not clearly above the clean control's." in text for text in tuned)
    wide = told({"suspect": 2.5, "original": 0.0, CONTROL: 0.0}, spread=1.9)
    assert all("random directions differ as much" in text for text in wide)
    without = told({"suspect": 2.5, "original": 0.0})
    assert all("more than the trigger's text explains" in text for text in without)


def test_the_excess_is_the_difference_of_both_areas():
    scores = scores_of({"suspect": 1.0, "original": 0.3})
    area = judged.auroc(scores, 0).query("fitted == 'suspect'")
    area = area.set_index(["model", "probe", "layer"])["auroc"]
    more = judged.excess(scores, random_of(("suspect", "original")), 0)
    assert set(more["fitted"]) == {"suspect", "own"}
    for row in more.itertuples():
        wanted = area["suspect", row.probe, row.layer] - area["original", row.probe, row.layer]
        assert row.difference == pytest.approx(wanted) and row.low <= row.difference <= row.high
