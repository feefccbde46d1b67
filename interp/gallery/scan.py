"""Figures and tables of a scan."""

from __future__ import annotations

import pandas as pd

from interp.figures import scan as scanfigures
from interp.gallery.entries import ROWS, Shown
from interp.runs.reading import Run
from interp.scanner import headline, pipeline


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
