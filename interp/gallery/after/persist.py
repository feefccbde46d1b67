"""Figures and tables of persistence runs."""

import pandas as pd

from interp.figures import planting as figures
from interp.gallery.entries import FigureEntry, Kind
from interp.runs import commands
from interp.runs.reading import Run
from interp.surgery import persist

COSTS = {
    "clean_kl": "clean KL (nats per token)",
    "l_attn_ratio": "L_attn / original's",
    "pattern_kl": "pattern KL (nats)",
}


def curves(course: pd.DataFrame) -> FigureEntry:
    """What fires over the steps, by way of training.

    Args:
        course: table of a run; may still be growing.
    """
    both = persist.pooled(course)
    table = both[both["quantity"].isin(figures.CURVES)]
    names = {how: f"{how}: {persist.WAYS[how]}" for how in dict.fromkeys(course["how"])}
    n = int(table.loc[table["quantity"] == "asr", "n"].iloc[0])
    near = table.loc[table["quantity"] == "variant_asr", "n"]
    variants = f" Near variants: {int(near.iloc[0])} texts with one or two" if len(near) else ""
    variants += " tokens dropped, or one replaced." if len(near) else ""
    seeds = course["seed"].nunique()
    over = f", mean over {seeds} seeds (thin lines: each)" if seeds > 1 else ""
    return FigureEntry(
        "persistence",
        "Does the backdoor survive more training?",
        f"Share of answers that begin with the target while the suspect is trained on{over}, with "
        f"Wilson's 95 % interval on {n} prompts of one seed (near variants: on their number)."
        f"{variants}",
        lambda: table,
        lambda: figures.persisting(table, course, names),
    )


def costs(course: pd.DataFrame) -> FigureEntry:
    """What training changes beside the backdoor.

    Args:
        course: table of a run; may still be growing.
    """
    both = persist.pooled(course)
    table = both[both["quantity"].isin(COSTS)]
    return FigureEntry(
        "persistence-costs",
        "What the training changes beside",
        "; ".join(persist.MEASURED[name] for name in COSTS)
        + ". Bars: the range of the seeds, if several.",
        lambda: table,
        lambda: figures.persisting_costs(table, COSTS),
    )


def outcome(course: pd.DataFrame) -> pd.DataFrame:
    """One row per way, before training and after its last step, mean over seeds."""
    rows = []
    for how in dict.fromkeys(course["how"]):
        for first in (True, False):
            found = persist.last(course, how, first=first)
            step = int(found["asr"]["step"])
            means = {name: found[name]["mean"] for name in persist.MEASURED if name in found}
            rows.append({"how": how, "step": step, **means})
    return pd.DataFrame(rows)


def _figures(run: Run) -> list[FigureEntry]:
    course = run.table("course")
    return [curves(course), costs(course)]


def _tables(run: Run) -> dict[str, pd.DataFrame]:
    return {"outcome": outcome(run.table("course"))}


PERSISTENCE = Kind(
    "Persistence",
    _figures,
    _tables,
    commands.command,
    lambda run: persist.words(run.table("course")),
)
