"""Figures and tables of guard runs."""

import pandas as pd

from interp.figures import probes as figures
from interp.gallery.entries import FigureEntry, Kind
from interp.probes import guard, judged
from interp.runs import commands
from interp.runs.reading import Run


def by_layer(run: Run) -> FigureEntry:
    """What each guard would have caught, by layer.

    Args:
        run: a finished guard run.
    """
    facts = run.meta["facts"]
    return FigureEntry(
        "caught-by-layer",
        "What a guard would have caught",
        f"Share of {facts['n_prompts']} prompts that raise the alarm, by what stands in them, with "
        "95 % Wilson intervals; solid: the suspect, dotted: the clean control with a guard of its "
        "own. The guard projects the residual stream at the prompt's last token, behind one layer, "
        "on a difference of means, and is set to 1 % false alarms on "
        f"{facts['n_ordinary']} other ordinary prompts. The line of *nothing* is the false alarms.",
        lambda: run.table("caught"),
        lambda: figures.caught_by_layer(run.table("caught")),
    )


def _tables(run: Run) -> dict[str, pd.DataFrame]:
    layer = judged.middle(run.meta["facts"]["n_layers"])
    caught, null = run.table("caught"), run.table("random")
    here = caught[caught["layer"] == layer]
    wide = here.pivot(index=["direction", "kind"], columns="model", values="caught")
    null = null[(null["layer"] == layer) & (null["model"] == "suspect")].set_index("kind")
    both = wide.reset_index().join(null[["low", "high"]].add_prefix("random_"), on="kind")
    fired = run.table("fired").set_index("kind")
    if len(fired):
        both = both.join((fired["fired"] / fired["n"]).rename("fires"), on="kind")
    return {"caught": both.rename_axis(columns=None)}


def words(run: Run) -> list[str]:
    """What the numbers say, in sentences."""
    return guard.sentences(run.table("caught"), run.table("random"), run.meta["facts"])


GUARDING = Kind("Guard", lambda run: [by_layer(run)], _tables, commands.command, words)
