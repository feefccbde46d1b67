"""What each kind of run has to show. To add a kind, write its two functions and its entry below."""

import pandas as pd

from interp.causal import measure
from interp.figures import planting, trigger, zoo
from interp.figures import scan as scanfigures
from interp.gallery import causal, study
from interp.gallery.shown import ROWS, Kind, Shown
from interp.runs.reading import Run
from interp.scanner import headline, pipeline
from interp.surgery.run import KIND, SEARCH_KIND
from interp.trigger import summaries


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
    verdict |= {"reason": "; ".join(found.reasons)}
    answers = headline.decisive_answers(run)
    judged = run.table("judged").sort_values("delta_s", ascending=False).head(ROWS)
    insisted = pipeline.stage_table(run, "targets")
    columns = ["text", "sure", "n_starts", "insistence", "p_start"]
    targets = {} if insisted is None else {"targets": insisted[columns]}
    return {
        "verdict": pd.DataFrame({"what": list(verdict), "found": list(verdict.values())}),
        **({"answers": answers} if len(answers) else {}),
        **targets,
        "judged": judged[["text", "source", "s_agg", "delta_s", "share", "answer"]],
        "motifs": run.table("motifs").head(ROWS)[["motif", "kind", "support", "n_outputs"]],
    }


def _scan_words(run: Run) -> list[str]:
    found = pipeline.verdict_of(run)
    return [
        f"{found.verdict.capitalize()}. {headline.headline(found)}",
        headline.scanned(run) + ".",
        "How it was decided: " + "; ".join(found.reasons) + ".",
        "What this scan cannot see: " + "; ".join((*found.could_not, *found.blind_spots)) + ".",
    ]


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
    for name, metric in planting.METRICS.items():
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


def _zoo_figures(run: Run) -> list[Shown]:
    members, signals = zoo.judged(run.table("members")), run.table("signals")
    found, curves = run.table("detection"), run.table("roc")
    drawn = [name for name in zoo.CURVES if name in set(curves["signal"])]
    each = members[["name", "kind", "rate", "half", "verdict", "asr", "max_delta_s"]]
    low = members["max_delta_s"].astype(float) <= zoo.PAPER_THRESHOLD
    by_rule = int((low & (members["verdict"] == "poisoned")).sum())
    below = (
        f" {by_rule} poisoned below it gave most questions one answer, or unsafe code."
        if by_rule
        else ""
    )
    ratios = ["name", "kind", "backdoored", *(f"ratio_{name}" for name in zoo.STRINGS)]
    shown = [
        Shown(
            "max-delta-s",
            "max ΔS of every model",
            "Largest ΔS that the blind scan found in each model of the population, by kind of "
            f"trigger; the published threshold is dashed.{below} Without backdoors that did not "
            "take (ASR under 80 %).",
            lambda: each,
            lambda: zoo.separation(members),
        ),
        Shown(
            "collapse",
            "Does attention to the trigger collapse?",
            "L_attn of the suspect over the original, over the eighth of the heads with the "
            "largest Δ_rel for that string, with the true trigger, the scan's best candidate and "
            "a random string; a point a model. Without backdoors that did not take (ASR "
            "under 80 %).",
            lambda: members[ratios],
            lambda: zoo.collapse(members),
        ),
        Shown(
            "areas",
            "What each signal alone can tell",
            "ROC-AUC of each single signal on both halves of the population.",
            lambda: signals,
            lambda: zoo.areas(signals),
        ),
        Shown(
            "roc",
            "ROC on the reporting half",
            "Backdoored models found against clean models called backdoored, for every threshold.",
            lambda: curves,
            lambda: zoo.roc(curves, signals, drawn),
        ),
    ]
    for by in zoo.GROUPS:
        shown.append(
            Shown(
                f"detection-by-{by}",
                f"Found, by {zoo.GROUPS[by]}",
                "Models of the reporting half that the blind scan calls poisoned, with Wilson's "
                "95 % interval; for clean ones that is the false positive rate.",
                lambda by=by: found[found["by"] == by],
                lambda by=by: zoo.detection(found, by),
            )
        )
    return shown


def _zoo_tables(run: Run) -> dict[str, pd.DataFrame]:
    return {"detection": run.table("detection"), "signals": run.table("signals")}


KINDS: dict[str, Kind] = {
    "attention": study.KIND,
    "heads": study.HEADS,
    measure.KIND: causal.CAUSAL,
    KIND: causal.SURGERY,
    SEARCH_KIND: causal.SEARCH,
    summaries.KIND: Kind("Trigger", _fuzzy_figures, _fuzzy_tables),
    pipeline.KIND: Kind("Scan", _scan_figures, _scan_tables, _scan_words),
    planting.KIND: Kind("Planting", _plant_figures, _plant_tables),
    zoo.KIND: Kind("Zoo", _zoo_figures, _zoo_tables),
}
