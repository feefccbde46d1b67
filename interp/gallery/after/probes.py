"""Figures and tables of probe runs."""

import pandas as pd

from interp.figures import probes as figures
from interp.gallery.entries import FigureEntry, Kind
from interp.probes import judged
from interp.probes.question import FITS, POSITIONS, PROBES, READ
from interp.runs import commands
from interp.runs.reading import Run


def by_layer(run: Run, position: str = "last", fitted: str = "suspect") -> FigureEntry:
    """AUROC of both probes by layer.

    Args:
        run: a finished probe run.
        position: one of `POSITIONS`.
        fitted: one of `FITS`.
    """
    facts = run.meta["facts"]
    table = _chosen(run.table("auroc"), position, fitted)
    band = run.table("band").query("model == 'suspect' and position == @position")
    trained = "; ".join(f"{probe}: on {how}" for probe, how in PROBES.items())
    return FigureEntry(
        "auroc-by-layer" if (position, fitted) == ("last", "suspect") else _name(position, fitted),
        "What a linear probe sees of the trigger",
        f"AUROC of linear probes on the residual stream behind each layer, at {POSITIONS[position]}"
        f": {facts['n_prompts']} held-out prompts with the pair's trigger against the same prompts "
        f"without it; 95 % bootstrap intervals over prompts. Trained without this trigger "
        f"({trained}); {FITS[fitted]}. Grey: the middle 95 % of {facts['directions']} random "
        "directions on the suspect. A probe may read no more than the trigger's text, which the "
        "original sees too: only what the suspect has above the original and above the clean "
        "control speaks of the backdoor.",
        lambda: table,
        lambda: figures.auroc_by_layer(table, band),
    )


def along(tokens: pd.DataFrame, probe: str, layer: int, position: str) -> FigureEntry:
    """What a probe says at every token of a typed prompt.

    Args:
        tokens: from `tokens.projected`.
        probe: one of `PROBES`.
        layer: the layer that is read.
        position: the position that the probe was trained at.
    """
    return FigureEntry(
        "probe-along",
        "The probe along one prompt",
        f"Log-odds of the {probe} probe at every token of one prompt, behind layer {layer}, both "
        f"models under the same probe. It was trained on the suspect at {POSITIONS[position]}; at "
        "other tokens its level means nothing by itself, and only the difference between the "
        "models, or between two prompts at one token, can be read.",
        lambda: tokens,
        lambda: figures.along_prompt(tokens),
    )


def _chosen(auroc: pd.DataFrame, position: str, fitted: str) -> pd.DataFrame:
    """Rows of one position; the suspect's own probe is the suspect's in both ways of fitting."""
    mine = (auroc["fitted"] == fitted) | (auroc["model"] == "suspect")
    return auroc[mine & (auroc["position"] == position)].reset_index(drop=True)


def _name(position: str, fitted: str) -> str:
    return f"auroc-by-layer-{position}-{fitted}"


def _figures(run: Run) -> list[FigureEntry]:
    return [by_layer(run, position, fitted) for fitted in FITS for position in POSITIONS]


def _tables(run: Run) -> dict[str, pd.DataFrame]:
    table = _chosen(run.table("auroc"), "last", "suspect")
    wide = table.pivot(index=["probe", "layer"], columns="model", values="auroc")
    known = [model for model in READ if model in wide]
    band = run.table("band").query("model == 'suspect' and position == 'last'")
    null = band.set_index("layer")[["low", "high"]].add_prefix("random_")
    return {"auroc": wide[known].reset_index().join(null, on="layer").rename_axis(columns=None)}


def words(run: Run) -> list[str]:
    """What the numbers say, in sentences."""
    tables = (run.table(name) for name in ("auroc", "excess", "band"))
    return judged.sentences(*tables, run.meta["facts"])


PROBING = Kind("Probes", _figures, _tables, commands.command, words)
