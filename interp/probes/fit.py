"""Fitting probes and judging them: logistic regression and AUROC of scikit-learn.

A probe is a direction w and an offset b; what it says of an activation h is `w · h + b`, in
log-odds. It is fitted on standardised activations; w and b are given for the plain ones.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from interp import stats

STRENGTH = 0.1
"""Inverse of the L2 penalty (C of scikit-learn): fewer examples than dimensions need a firm one."""
DIRECTIONS = 200
"""Random directions of the null band."""


@dataclass(frozen=True)
class Probe:
    """One probe for each layer and position."""

    weight: np.ndarray
    """[layer, position, width] float32."""
    bias: np.ndarray
    """[layer, position] float32, log-odds."""
    scale: np.ndarray
    """[layer, position, width] float32: standard deviation of each dimension in training."""

    def scores(self, residuals: np.ndarray) -> np.ndarray:
        """Log-odds [prompt, layer, position] of residuals [prompt, layer, position, width]."""
        return np.einsum("nlpw,lpw->nlp", residuals, self.weight, optimize=True) + self.bias


def fit(residuals: np.ndarray, found: np.ndarray) -> Probe:
    """Fit a probe for each layer and position.

    Args:
        residuals: [example, layer, position, width].
        found: [example] bool, the side to be found; both must occur, and weigh the same.
    """
    n_layers, n_positions, width = residuals.shape[1:]
    weight = np.empty((n_layers, n_positions, width), np.float32)
    bias, scale = np.empty((n_layers, n_positions), np.float32), np.empty_like(weight)
    for layer in range(n_layers):
        for position in range(n_positions):
            scaler = StandardScaler()
            model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000)
            make_pipeline(scaler, model).fit(residuals[:, layer, position].astype(float), found)
            own = model.coef_[0] / scaler.scale_
            weight[layer, position], scale[layer, position] = own, scaler.scale_
            bias[layer, position] = model.intercept_[0] - own @ scaler.mean_
    return Probe(weight, bias, scale)


def random_probe(scale: np.ndarray, seed: int) -> Probe:
    """A direction drawn evenly among those of standardised activations, without an offset.

    Args:
        scale: [layer, position, width], of a fitted probe.
        seed: of the draw.
    """
    drawn = np.random.default_rng(seed).standard_normal(scale.shape)
    return Probe((drawn / scale).astype(np.float32), np.zeros(scale.shape[:2], np.float32), scale)


def auroc(triggered: np.ndarray, clean: np.ndarray) -> float:
    """Area under the ROC curve: how often a triggered prompt scores above a clean one.

    Args:
        triggered: [prompt] scores.
        clean: [prompt] scores.
    """
    truth = np.r_[np.ones(len(triggered)), np.zeros(len(clean))]
    return float(roc_auc_score(truth, np.r_[triggered, clean]))


def resampled(triggered: np.ndarray, clean: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """AUROC of bootstrap resamples over prompts; a prompt brings both its versions.

    The same as `auroc` of the repeated scores (Mann and Whitney 1947): the share of pairs of a
    triggered and a clean prompt in which the first is higher, ties counting half.

    Args:
        triggered: [prompt] scores with the trigger.
        clean: [prompt] scores of the same prompts without it.
        counts: [resample, prompt] from `stats.resample`.

    Returns:
        [resample].
    """
    above = triggered[:, None] - clean[None]
    won = (above > 0) + 0.5 * (above == 0)
    return ((counts @ won) * counts).sum(1) / len(triggered) ** 2


def bounds(drawn: np.ndarray) -> tuple[float, float]:
    """95 % interval of resampled values."""
    low, high = stats.interval(drawn)
    return float(low), float(high)
