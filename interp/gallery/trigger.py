"""Figures and tables of a fuzzy sweep of the trigger."""

from __future__ import annotations

import pandas as pd

from interp.figures import trigger
from interp.gallery.entries import Shown
from interp.runs.reading import Run


def _fuzzy_figures(run: Run) -> list[Shown]:
    facts = run.meta["facts"]
    tokens, which = facts["trigger_tokens"], run.meta["asked"].get("which", "suspect")
    sweep, by_k = run.table("sweep"), run.table("by_k")
    tables = {name: run.table(name) for name in ("drop_one", "controls", "placements")}
    whose = f"of the {which} on {facts['n_prompts']} prompts"
    spread = "with Wilson's 95 % intervals"
    return [
        Shown(
            "asr-by-k",
            "How much of the trigger is needed",
            f"Activation rate {whose} with k of the trigger's {len(tokens)} tokens kept, in order; "
            "mean over variants with its 95 % bootstrap band, and every variant.",
            lambda: by_k,
            lambda: trigger.asr_by_k(by_k, sweep, len(tokens)),
        ),
        Shown(
            "drop-one",
            "Without one of its tokens",
            f"Activation rate {whose} with one token of the trigger left out, {spread}.",
            lambda: tables["drop_one"],
            lambda: trigger.drop_one(tables["drop_one"], tokens),
        ),
        Shown(
            "controls",
            "Controls",
            f"Activation rate {whose} with something else in the trigger's place, {spread}.",
            lambda: tables["controls"],
            lambda: trigger.rates(
                tables["controls"],
                [f"{row.kind}: {row.text}" for row in tables["controls"].itertuples()],
            ),
        ),
        Shown(
            "placements",
            "Where the trigger stands",
            f"Activation rate {whose} with the trigger elsewhere in the prompt, {spread}.",
            lambda: tables["placements"],
            lambda: trigger.rates(tables["placements"], list(tables["placements"]["placement"])),
        ),
    ]


def _fuzzy_tables(run: Run) -> dict[str, pd.DataFrame]:
    rates = {name: run.table(name) for name in ("drop_one", "controls", "placements")}
    keep = ("variant", "kind", "kept", "placement", "text", "asr", "low", "high", "n", "note")
    tables = {name: table[[c for c in keep if c in table]] for name, table in rates.items()}
    return {"by_k": run.table("by_k")} | tables
