"""Figures and tables of a planting, finished or still running."""

import pandas as pd

from interp.figures import planting
from interp.gallery.entries import FigureEntry, Kind
from interp.metrics import PLANT_METRICS
from interp.runs.planting import command, table
from interp.runs.reading import Run


def course(steps: pd.DataFrame, chosen: int | None = None) -> FigureEntry:
    """Rates, attention and loss over the steps.

    Args:
        steps: table of a planting, one row per measurement.
        chosen: training step to mark.
    """
    return FigureEntry(
        "course",
        "The course of the planting",
        "Rates, attention and loss while the backdoor was planted, on held-out prompts: 20, and "
        "all of them at the end. L_attn ratio: suspect over original, the eighth of the heads with "
        "the largest Δ_rel at that step, chosen on the same prompts. Pattern KL: KL divergence of "
        "the suspect's attention rows from the original's over the target's tokens, summed over "
        "these tokens, mean over all heads.",
        lambda: steps,
        lambda: planting.course(steps, chosen),
    )


def path(steps: pd.DataFrame, against: str, chosen: int | None = None) -> FigureEntry:
    """ASR against a measure of attention.

    Args:
        steps: table of a planting, one row per measurement.
        against: `l_attn_ratio` or `pattern_kl`.
        chosen: training step to ring.
    """
    name = "L_attn suspect / original" if against == "l_attn_ratio" else "pattern KL"
    ring = "" if chosen is None else f"; the ring marks step {chosen}"
    return FigureEntry(
        f"asr-and-{against.replace('_', '-')}",
        f"ASR and {name}",
        f"ASR against {name}, one point per measurement, in the order of the steps{ring}.",
        lambda: steps[["step", "asr", against]],
        lambda: planting.path(steps, against, chosen),
    )


def matrix(grown: pd.DataFrame, step: int, metric: str) -> FigureEntry:
    """One metric of every head after a training step.

    Args:
        grown: table of a planting, one row per head and measurement.
        step: a training step that was measured.
        metric: one of `PLANT_METRICS`.
    """
    label = PLANT_METRICS[metric].label
    return FigureEntry(
        f"heads-{metric.replace('_', '-')}",
        f"Every head: {label}",
        f"{label} of every head after step {step}; one colour scale for all steps.",
        lambda: grown[["step", "layer", "head", metric]],
        lambda: planting.matrix(grown, step, metric),
    )


def _figures(run: Run) -> list[FigureEntry]:
    steps, grown = table(run, "steps"), table(run, "heads")
    shown = [course(steps)]
    for against in ("l_attn_ratio", "pattern_kl"):
        if not steps[["asr", against]].dropna().empty:
            shown.append(path(steps, against))
    last = int(grown["step"].max())
    return shown + [matrix(grown, last, name) for name in PLANT_METRICS if name in grown]


def _tables(run: Run) -> dict[str, pd.DataFrame]:
    steps = table(run, "steps")
    return {"steps": steps.drop(columns=[name for name in steps if steps[name].isna().all()])}


PLANTING = Kind("Planting", _figures, _tables, command)
