"""Figures and tables of a zoo."""

import pandas as pd

from interp.figures import zoo
from interp.gallery.entries import FigureEntry, Kind
from interp.runs import zoo_members
from interp.runs.commands import line
from interp.runs.reading import Run
from interp.runs.zoo import GROUPS
from interp.runs.zoo_members import attention_of, definition, members_of


def _figures(run: Run) -> list[FigureEntry]:
    members, signals = zoo_members.judged(members_of(run)), run.table("signals")
    found, curves = run.table("detection"), run.table("roc")
    drawn = [name for name in zoo.CURVES if name in set(curves["signal"])]
    each = members[["name", "kind", "rate", "half", "verdict", "asr", "max_delta_s"]]
    low = members["max_delta_s"].astype(float) <= zoo_members.PAPER_THRESHOLD
    others = int((low & (members["verdict"] == "poisoned")).sum())
    below = (
        f" {others} below it were called poisoned because most questions got one answer, or "
        "answers of one class, such as unsafe code."
        if others
        else ""
    )
    measured = [name for name in members if name.startswith(("true_", "candidate_"))]
    ratios = ["name", "kind", "backdoored", *measured]
    several = attention_of(run)["strings"] > 1
    beside = "the mean of random strings" if several else "a random string"
    shown = [
        FigureEntry(
            "max-delta-s",
            "max ΔS of every model",
            "Largest ΔS that the blind scan found in each model of the population, by kind of "
            f"trigger; the published threshold is dashed.{below} Backdoors with an ASR under 80 % "
            "are left out.",
            lambda: each,
            lambda: zoo.separation(members),
        ),
        FigureEntry(
            "collapse",
            "Does attention to the trigger collapse?",
            "L_attn of the suspect over the original, over the eighth of the heads with the "
            "largest Δ_rel for that string, with the true trigger, the scan's best candidate and "
            f"{beside}; one point per model. Backdoors with an ASR under 80 % are left out. "
            f"{definition(run)}",
            lambda: members[ratios],
            lambda: zoo.collapse(members),
        ),
        FigureEntry(
            "areas",
            "Each signal alone",
            "ROC-AUC of each single signal on both halves of the population.",
            lambda: signals,
            lambda: zoo.areas(signals),
        ),
        FigureEntry(
            "roc",
            "ROC on the test half",
            "True against false positive rate, for every threshold.",
            lambda: curves,
            lambda: zoo.roc(curves, signals, drawn),
        ),
    ]
    return shown + [_by_group(found, by) for by in GROUPS]


def _by_group(found: pd.DataFrame, by: str) -> FigureEntry:
    return FigureEntry(
        f"detection-by-{by}",
        f"Detection rate by {GROUPS[by]}",
        "Models of the test half that the blind scan calls poisoned, with Wilson's "
        "95 % interval; for clean ones that is the false positive rate.",
        lambda: found[found["by"] == by],
        lambda: zoo.detection(found, by),
    )


def _tables(run: Run) -> dict[str, pd.DataFrame]:
    return {"detection": run.table("detection"), "signals": run.table("signals")}


COMMAND = line(["zoo", "--spec", "assets/zoo/zoo.json", "--out", "runs/zoo"], "training")
"""The command that reproduces the zoo that ships."""
ZOO = Kind("Zoo", _figures, _tables, lambda run: COMMAND)
