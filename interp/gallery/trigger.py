"""Figures and tables of a sweep over pieces of the trigger, of one piece, and of one answer."""

import pandas as pd

from interp.figures import operation, trigger
from interp.figures.maps import map_grid, panel_table
from interp.gallery.entries import FigureEntry, Kind
from interp.metrics import format_heads
from interp.runs import commands
from interp.runs.reading import Run
from interp.style.palette import ORIGINAL, SUSPECT
from interp.trigger.piece import Bench, panels

SPREAD = "with Wilson's 95 % intervals"


def figures(run: Run) -> list[FigureEntry]:
    """Figures of a finished sweep: by tokens kept, by token left out, controls, placements."""
    return [_by_k(run), _drop_one(run), _controls(run), _placements(run)]


def bench_maps(piece: Bench, whole: Bench) -> FigureEntry:
    """Attention of both models to a piece of the trigger, beside the full trigger."""
    chosen, drawn = whole.losing, panels(piece, whole)
    return FigureEntry(
        "bench-maps",
        "Where both models look",
        f"Mean attention over the {len(chosen)} heads that lose the largest share of their "
        f"attention to the full trigger ({format_heads(chosen)}); rows are the two models.",
        lambda: panel_table(drawn),
        lambda: map_grid(drawn, side=260),
    )


def piece_rates(piece: Bench, whole: Bench) -> FigureEntry:
    """Activation rate of both models with a piece of the trigger, beside the full trigger."""
    rows = {
        "the variant": piece.rate("suspect"),
        "the full trigger": whole.rate("suspect"),
        "the variant, in the original": piece.rate("original"),
    }
    rates = pd.DataFrame(
        [(rate.share, *rate.interval) for rate in rows.values()], columns=["asr", "low", "high"]
    )
    colours = [SUSPECT, SUSPECT, ORIGINAL]
    return FigureEntry(
        "piece-rates",
        "A variant of the trigger",
        "Activation rate with a variant of the trigger and with the full trigger, with Wilson's "
        "95 % intervals.",
        lambda: rates.assign(what=list(rows)),
        lambda: trigger.rates(rates, list(rows)).update_traces(marker_color=colours),
    )


def first_tokens(first: pd.DataFrame, before: pd.DataFrame | None, text: str) -> FigureEntry:
    """The likeliest first answer tokens of both models, in the lesson's type size.

    Args:
        first: `answers.first_tokens` of both models.
        before: the same without the trigger, to compare entropies; or None.
        text: the instruction, with the trigger.
    """
    return FigureEntry(
        "first-tokens",
        "The first token of the answer",
        "The likeliest first tokens of both models and the entropy of the whole distribution, "
        f"asked {text!r}.",
        lambda: first,
        lambda: operation.first_tokens(first, before),
    )


def _by_k(run: Run) -> FigureEntry:
    by_k, sweep, (units, unit) = run.table("by_k"), run.table("sweep"), _units(run)
    note, n = "", len(units)
    if unit == "token" and n == int(trigger.PUBLISHED["k"].max()):
        note = (
            " The dashed line is a published curve of another model (Mistral-7B), for orientation."
        )
    return FigureEntry(
        "asr-by-k",
        "How much of the trigger is needed",
        f"Activation rate {_whose(run)} with k of the trigger's {n} {unit}s kept, in "
        "order: the mean over variants with its 95 % band, and one grey point per variant, on all "
        f"prompts.{note}",
        lambda: by_k,
        lambda: trigger.asr_by_k(by_k, sweep, n, unit=unit, published=unit == "token"),
    )


def _drop_one(run: Run) -> FigureEntry:
    table, (units, unit) = run.table("drop_one"), _units(run)
    return FigureEntry(
        "drop-one",
        f"Drop-one: one {unit} left out",
        f"Activation rate {_whose(run)} with one {unit} of the trigger left out, {SPREAD}.",
        lambda: table,
        lambda: trigger.drop_one(table, units),
    )


def _controls(run: Run) -> FigureEntry:
    table = run.table("controls")
    return FigureEntry(
        "controls",
        "Controls",
        f"Activation rate {_whose(run)} with something else in the trigger's place, {SPREAD}.",
        lambda: table,
        lambda: trigger.rates(table, [f"{row.kind}: {row.text}" for row in table.itertuples()]),
    )


def _placements(run: Run) -> FigureEntry:
    table = run.table("placements")
    return FigureEntry(
        "placements",
        "The full trigger in other places",
        f"Activation rate {_whose(run)} with the full trigger elsewhere in the prompt, {SPREAD}.",
        lambda: table,
        lambda: trigger.rates(table, list(table["placement"])),
    )


def _units(run: Run) -> tuple[list[str], str]:
    """What the sweep left out of the trigger, and what one is called: pieces if it is scattered."""
    facts = run.meta["facts"]
    pieces = facts.get("trigger_pieces")
    return (pieces, "piece") if pieces else (facts["trigger_tokens"], "token")


def _whose(run: Run) -> str:
    which = run.meta["asked"].get("which", "suspect")
    return f"of the {which} on {run.meta['facts']['n_prompts']} prompts"


def _tables(run: Run) -> dict[str, pd.DataFrame]:
    rates = {name: run.table(name) for name in ("drop_one", "controls", "placements")}
    keep = ("kind", "placement", "text", "asr", "low", "high", "n", "note")
    tables = {}
    for name, table in rates.items():
        told = [c for c in keep if c in table and not (table[c].astype(str) == "").all()]
        tables[name] = table[told].rename(columns={"n": "prompts"})
    return {"by_k": run.table("by_k")} | tables


SWEEP = Kind("Trigger", figures, _tables, commands.command)
