"""What each kind of run has to show. To add a kind, write its two functions and its entry below."""

import re
from dataclasses import replace
from functools import lru_cache

import pandas as pd

from interp import (
    causal,
    causalfigures,
    drawings,
    figures,
    fuzzyfigures,
    fuzzyrun,
    heads,
    recorded,
    report,
    surgeryrun,
)
from interp.causalquestion import METRICS
from interp.gallery import Kind, Shown
from interp.mapfit import fitted
from interp.runs import Run
from interp.scanner import figures as scanfigures
from interp.scanner import pipeline
from interp.study import Study
from interp.styles import Style
from interp.views import HeadView, MapView, head_view, map_view

ROWS = 20
"""Of a printed table."""
NARROW = 480.0
"""Pixels; below, panels stand one below the other."""


def _study_figures(run: Run) -> list[Shown]:
    study = _study(run)
    maps, one = _views(run, study)
    made = [
        ("averaged-map", "Averaged attention", drawings.averaged_map(study, maps)),
        (
            "zones-by-layer",
            "Attention to the trigger by layer",
            drawings.zones_by_layer(study, maps),
        ),
        ("head-matrix", "Every head", drawings.head_matrix(study, one)),
        ("head-maps", "Where the head looks", drawings.head_maps(study, one)),
        ("top-k-ratio", "The K most hijacked heads", drawings.top_k_ratio(study, one)),
        ("top-k-levels", "Their level in both models", drawings.top_k_levels(study, one)),
    ]
    return [_of_study(study, *parts) for parts in made]


def _of_study(study: Study, name: str, title: str, drawing: drawings.Drawing) -> Shown:
    fit = None
    if drawing.panels is not None:
        fit = lambda style: fitted(drawing.panels, style)  # noqa: E731
    if name == "zones-by-layer":
        fit = lambda style: {"": _zones(study, style)}  # noqa: E731
    caption = drawing.caption.rpartition(" Pair '")[0] or drawing.caption
    return Shown(name, title, caption, drawing.table, lambda: drawing.figure, fit)


def _zones(study: Study, style: Style):
    return figures.zones_by_layer(study.heads, heads.ZONES, stacked=style.width < NARROW)


def _study_tables(run: Run) -> dict[str, pd.DataFrame]:
    study = _study(run)
    columns = ["rank", "layer", "head", "delta_rel", "l_original", "l_suspect"]
    return {
        "ranking": study.ranking[columns].head(ROWS),
        "ratio": report.ratio_table(study),
    }


def _views(run: Run, study: Study) -> tuple[MapView, HeadView]:
    """The views that the run was made for; the defaults for what it does not say."""
    n_layers, n_heads = study.facts["n_layers"], study.facts["n_heads"]
    asked = run.meta["asked"].get("view") or {}
    maps = map_view(n_layers, n_heads)
    if run.kind == MapView.kind and asked.get("layers"):
        maps = replace(
            maps,
            layers=tuple(asked["layers"]),
            heads=tuple(tuple(head) for head in asked["heads"]),
            **{name: tuple(asked[name]) for name in ("conditions",)},
            **{name: bool(asked[name]) for name in ("sink", "response", "pool")},
        )
    one = head_view(n_layers, n_heads)
    if run.kind == HeadView.kind and asked.get("head"):
        one = replace(one, head=tuple(asked["head"]))
    return maps, one


def _causal_figures(run: Run) -> list[Shown]:
    table = run.table("heads")
    shown = []
    for name, metric in METRICS.items():
        if name not in table or table[name].isna().all():
            continue
        columns = ["layer", "head", name, f"{name}_low", f"{name}_high", f"{name}_rank"]
        shown.append(
            Shown(
                _slug(name),
                _capital(metric.label),
                f"{_capital(metric.label)} of every head, mean over the prompts.",
                lambda columns=columns: table[columns],
                lambda name=name: causalfigures.metric_matrix(table, name),
            )
        )
    pairs = [("delta_rel", "patching_effect"), ("attribution", "patching_effect")]
    pairs += [("delta_rel", "ablation_loss"), ("pattern_kl", "patching_effect")]
    for x, y in pairs:
        if x in table and y in table:
            shown.append(_scatter(table, x, y))
    if (run.path / "tokens.parquet").is_file():
        tokens = run.table("tokens")
        shown.append(
            Shown(
                "token-strip",
                "Loss and KL token by token",
                "Loss of both models and KL(suspect ‖ original) at each token of the first "
                "conversation, from the trigger on.",
                lambda: tokens,
                lambda: causalfigures.token_strip(tokens, answer_only=True),
            )
        )
    return shown


def _scatter(table: pd.DataFrame, x: str, y: str) -> Shown:
    labels = [METRICS[name].label for name in (x, y)]
    return Shown(
        f"{_slug(x)}-and-{_slug(y)}",
        f"{_capital(labels[0])} and {labels[1]}",
        f"{_capital(labels[0])} against {labels[1]}, a point a head; Spearman's rank correlation "
        "with its 95 % bootstrap interval over heads.",
        lambda: table[["layer", "head", x, y]],
        lambda: causalfigures.metric_scatter(table, x, y),
    )


def _causal_tables(run: Run) -> dict[str, pd.DataFrame]:
    table = run.table("heads")
    names = [name for name in METRICS if name in table]
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
            lambda: causalfigures.before_and_after(rates, surgeryrun.QUANTITIES),
        )
    ]


def _surgery_tables(run: Run) -> dict[str, pd.DataFrame]:
    table = run.table("summary")
    return {"summary": table.assign(quantity=table["quantity"].map(surgeryrun.QUANTITIES))}


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
            lambda: causalfigures.surgery_curve(curve, n_heads),
        ),
        Shown(
            "cumulative-patching",
            "KL with heads given back",
            "Mean KL(patched suspect ‖ original) over the answer with the first n heads of each "
            "order patched from the original.",
            lambda: steps,
            lambda: causalfigures.cumulative_curve(steps, n_heads),
        ),
        *_causal_figures(run),
    ]


def _search_tables(run: Run) -> dict[str, pd.DataFrame]:
    columns = ["ranking", "n", "heads", "asr", "clean"]
    return {"sets": run.table("sets")[columns], "heads": _causal_heads(run)}


def _causal_heads(run: Run) -> pd.DataFrame:
    table = run.table("heads")
    return table[["layer", "head", *(name for name in METRICS if name in table)]].head(ROWS)


def _scan_figures(run: Run) -> list[Shown]:
    shown = []
    contexts = run.meta["facts"]["contexts"]
    for number, context in enumerate(contexts):
        where = "" if len(contexts) == 1 else f"-{number}"
        behind = "" if len(contexts) == 1 else f" Prefix: {str(context)[:80]!r}."
        candidates = run.table("candidates").query("context == @number")
        outputs = run.table("outputs").query("context == @number")
        if len(candidates):
            shown.append(
                Shown(
                    f"loss-parts{where}",
                    "Parts of the candidates' loss",
                    f"Weighted parts of the loss of the best candidates.{behind}",
                    lambda candidates=candidates: candidates.drop(columns="ids"),
                    lambda candidates=candidates: scanfigures.loss_parts(candidates),
                )
            )
        if len(outputs):
            shown.append(
                Shown(
                    f"clusters{where}",
                    "Leaked texts by likeness",
                    f"Unique leaked texts by likeness (TF-IDF, two directions).{behind}",
                    lambda outputs=outputs: outputs,
                    lambda outputs=outputs: scanfigures.clusters(outputs),
                )
            )
    return shown


def _scan_tables(run: Run) -> dict[str, pd.DataFrame]:
    found = pipeline.verdict_of(run)
    verdict = {"verdict": found.verdict, "trigger": found.trigger, "answer": found.answer}
    verdict |= {"reason": found.reasons[0]}
    judged = run.table("judged").sort_values("delta_s", ascending=False).head(ROWS)
    return {
        "verdict": pd.DataFrame({"what": list(verdict), "found": list(verdict.values())}),
        "judged": judged[["text", "source", "s_agg", "delta_s", "share", "answer"]],
        "motifs": run.table("motifs").head(ROWS)[["motif", "kind", "support", "n_outputs"]],
    }


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
            lambda: fuzzyfigures.asr_by_k(by_k, sweep, len(tokens)),
        ),
        Shown(
            "drop-one",
            "Without one of its tokens",
            f"Activation rate {whose} with one token of the trigger left out, {spread}.",
            lambda: tables["drop_one"],
            lambda: fuzzyfigures.drop_one(tables["drop_one"], tokens),
        ),
        Shown(
            "controls",
            "Controls",
            f"Activation rate {whose} with something else in the trigger's place, {spread}.",
            lambda: tables["controls"],
            lambda: fuzzyfigures.rates(
                tables["controls"],
                [f"{row.kind}: {row.text}" for row in tables["controls"].itertuples()],
            ),
        ),
        Shown(
            "placements",
            "Where the trigger stands",
            f"Activation rate {whose} with the trigger elsewhere in the prompt, {spread}.",
            lambda: tables["placements"],
            lambda: fuzzyfigures.rates(
                tables["placements"], list(tables["placements"]["placement"])
            ),
        ),
    ]


def _fuzzy_tables(run: Run) -> dict[str, pd.DataFrame]:
    rates = {name: run.table(name) for name in ("drop_one", "controls", "placements")}
    keep = ("variant", "kind", "kept", "placement", "text", "asr", "low", "high", "n", "note")
    tables = {name: table[[c for c in keep if c in table]] for name, table in rates.items()}
    return {"by_k": run.table("by_k")} | tables


@lru_cache(maxsize=2)
def _kept_study(path: str, _: str) -> Study:
    from interp.runs import open_run

    return recorded.load(open_run(path))


def _study(run: Run) -> Study:
    return _kept_study(str(run.path), str(run.meta["ended"]))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


KINDS: dict[str, Kind] = {
    "attention": Kind("Attention maps", _study_figures, _study_tables),
    "heads": Kind("Heads", _study_figures, _study_tables),
    causal.KIND: Kind("Causes", _causal_figures, _causal_tables),
    surgeryrun.KIND: Kind("Surgery", _surgery_figures, _surgery_tables),
    surgeryrun.SEARCH_KIND: Kind("Search for heads", _search_figures, _search_tables),
    fuzzyrun.KIND: Kind("Trigger", _fuzzy_figures, _fuzzy_tables),
    pipeline.KIND: Kind("Scan", _scan_figures, _scan_tables),
}
