"""Figures and tables of a planting."""

from __future__ import annotations

import pandas as pd

from interp.figures import planting
from interp.gallery.entries import Shown
from interp.runs.reading import Run


def _plant_figures(run: Run) -> list[Shown]:
    steps, grown = planting.table(run, "steps"), planting.table(run, "heads")
    shown = [
        Shown(
            "course",
            "The course of the planting",
            "Rates, attention and loss while the backdoor was planted, on held-out prompts.",
            lambda: steps,
            lambda: planting.course(steps),
        )
    ]
    for against in ("l_attn_ratio", "pattern_kl"):
        if steps[["asr", against]].dropna().empty:
            continue
        name = "L_attn suspect / original" if against == "l_attn_ratio" else "pattern KL"
        shown.append(
            Shown(
                f"asr-and-{against.replace('_', '-')}",
                f"ASR and {name}",
                f"ASR against {name}, a point a measurement, in the order of the steps.",
                lambda against=against: steps[["step", "asr", against]],
                lambda against=against: planting.path(steps, against),
            )
        )
    last = int(grown["step"].max())
    for name, metric in planting.WATCHED.items():
        if name in grown:
            shown.append(
                Shown(
                    f"heads-{name.replace('_', '-')}",
                    f"Every head: {metric.label}",
                    f"{metric.label} of every head after step {last}.",
                    lambda name=name: grown[["step", "layer", "head", name]],
                    lambda name=name: planting.matrix(grown, last, name),
                )
            )
    return shown


def _plant_tables(run: Run) -> dict[str, pd.DataFrame]:
    steps = planting.table(run, "steps")
    return {"steps": steps.drop(columns=[name for name in steps if steps[name].isna().all()])}
