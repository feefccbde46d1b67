"""Figures and tables of the causes: every head's part, operations, the search for the fewest."""

import re

import pandas as pd

from interp import stats
from interp.figures import causal
from interp.gallery.entries import ROWS, Kind, Shown
from interp.metrics import CAUSAL_METRICS
from interp.runs.reading import Run
from interp.surgery.run import OUTCOMES


def _causal_figures(run: Run) -> list[Shown]:
    table = run.table("heads")
    shown = []
    for name, metric in CAUSAL_METRICS.items():
        if name not in table or table[name].isna().all():
            continue
        columns = ["layer", "head", name, f"{name}_low", f"{name}_high", f"{name}_rank"]
        shown.append(
            Shown(
                _slug(name),
                _capital(metric.label),
                f"{_capital(metric.label)} of every head, mean over the prompts.",
                lambda columns=columns: table[columns],
                lambda name=name: causal.metric_matrix(table, name),
            )
        )
    pairs = [("delta_rel", "patching_effect"), ("attribution", "patching_effect")]
    pairs += [("delta_rel", "ablation_loss"), ("pattern_kl", "patching_effect")]
    for x, y in pairs:
        if x in table and y in table:
            shown.append(_scatter(table, x, y, stats.per_group(run.meta.get("facts"))))
    if (run.path / "tokens.parquet").is_file():
        tokens = run.table("tokens")
        shown.append(
            Shown(
                "token-strip",
                "Loss and KL token by token",
                "Loss of both models and KL(suspect ‖ original) at each token of the first "
                "conversation, from the trigger on.",
                lambda: tokens,
                lambda: causal.token_strip(tokens, answer_only=True),
            )
        )
    return shown


def _scatter(table: pd.DataFrame, x: str, y: str, per_group: int) -> Shown:
    labels = [CAUSAL_METRICS[name].label for name in (x, y)]
    return Shown(
        f"{_slug(x)}-and-{_slug(y)}",
        f"{_capital(labels[0])} and {labels[1]}",
        f"{_capital(labels[0])} against {labels[1]}, a point a head; Spearman's rank correlation "
        "with its 95 % bootstrap interval over heads, those of one key-value group together.",
        lambda: table[["layer", "head", x, y]],
        lambda: causal.metric_scatter(table, x, y, per_group=per_group),
    )


def _causal_tables(run: Run) -> dict[str, pd.DataFrame]:
    table = run.table("heads")
    names = [name for name in CAUSAL_METRICS if name in table]
    first = "patching_effect" if "patching_effect" in names else names[0]
    best = table.nsmallest(ROWS, f"{first}_rank")[["layer", "head", *names]]
    over = run.table("baseline").drop(columns="prompt").astype(float).describe()
    over = over.loc[["mean", "std", "min", "max"]].reset_index(names="over prompts")
    return {"heads": best, "baseline": over}


def _surgery_figures(run: Run) -> list[Shown]:
    table = run.table("summary")
    rates = table[table["quantity"] != "kl_clean"]
    return [
        Shown(
            "before-and-after",
            "Before and after the operation",
            f"What the suspect answers before and after its heads {run.meta['facts']['heads']} are "
            f"operated on ({run.meta['asked']['method']}), with Wilson's 95 % intervals.",
            lambda: table,
            lambda: causal.before_and_after(rates, OUTCOMES),
        )
    ]


def _surgery_tables(run: Run) -> dict[str, pd.DataFrame]:
    table = run.table("summary")
    return {"summary": table.assign(quantity=table["quantity"].map(OUTCOMES))}


def _search_figures(run: Run) -> list[Shown]:
    facts = run.meta["facts"]
    n_heads = facts["n_layers"] * facts["n_heads"]
    curve, steps = run.table("curve"), run.table("cumulative")
    return [
        Shown(
            "surgery-curve",
            "ASR and clean accuracy by the number of heads",
            "ASR and clean accuracy with the first n heads of each ranking operated on; dotted: "
            "the goal (ASR 5 %, clean accuracy 2 points below the untouched suspect's).",
            lambda: curve,
            lambda: causal.surgery_curve(curve, n_heads),
        ),
        Shown(
            "cumulative-patching",
            "KL with heads given back",
            "Mean KL(patched suspect ‖ original) over the answer with the first n heads of each "
            "order patched from the original.",
            lambda: steps,
            lambda: causal.cumulative_curve(steps, n_heads),
        ),
        *_causal_figures(run),
    ]


def _search_tables(run: Run) -> dict[str, pd.DataFrame]:
    columns = ["ranking", "n", "heads", "asr", "clean"]
    return {"sets": run.table("sets")[columns], "heads": _causal_heads(run)}


def _causal_heads(run: Run) -> pd.DataFrame:
    table = run.table("heads")
    return table[["layer", "head", *(name for name in CAUSAL_METRICS if name in table)]].head(ROWS)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


CAUSAL = Kind("Causes", _causal_figures, _causal_tables)
SURGERY = Kind("Surgery", _surgery_figures, _surgery_tables)
SEARCH = Kind("Search for heads", _search_figures, _search_tables)
