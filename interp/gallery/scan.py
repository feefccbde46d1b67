"""Figures and tables of a scan."""

import pandas as pd

from interp.figures import scan
from interp.gallery.entries import ROWS, FigureEntry, Kind
from interp.runs.reading import Run
from interp.scanner import headline, original, pipeline
from interp.scanner.command import command
from interp.scanner.weights import bank, evidence
from interp.scanner.weights.statistics import STATISTICS, by_module

PRINTED = ("relative", "energy", "kurtosis")
"""Statistics of an adapter's weights that a report draws; the page draws any of them."""


def loss_parts(run: Run, context: int, candidates: pd.DataFrame) -> FigureEntry:
    """The parts of the loss of the best candidates.

    Args:
        run: the scan, finished or not.
        context: number of the prefix.
        candidates: the candidates of this prefix, one row each.
    """
    where, behind = _prefix(run, context)
    return FigureEntry(
        f"loss-parts{where}",
        "Parts of the reconstruction loss",
        f"Weighted parts of the reconstruction loss of the best candidates, lowest first.{behind}",
        lambda: candidates.drop(columns="ids"),
        lambda: scan.loss_parts(candidates),
    )


def clusters(run: Run, context: int, outputs: pd.DataFrame) -> FigureEntry:
    """The leaked texts, with similar texts close to each other.

    Args:
        run: the scan, finished or not.
        context: number of the prefix.
        outputs: the leaked texts of this prefix, one row each.
    """
    where, behind = _prefix(run, context)
    return FigureEntry(
        f"clusters{where}",
        "Leaked texts by similarity",
        "Distinct leaked texts, placed by similarity (first two components of their TF-IDF); "
        f"colour is the cluster.{behind}",
        lambda: outputs,
        lambda: scan.clusters(outputs),
    )


def weights(found: evidence.Evidence, statistic: str) -> FigureEntry:
    """One statistic of an adapter's matrices, by layer and module.

    Args:
        found: the evidence from the adapter's weights.
        statistic: one of `STATISTICS`, known for some matrix.
    """
    known = STATISTICS[statistic]
    return FigureEntry(
        f"weights-{statistic}",
        f"Adapter's weights: {known.label}",
        f"{known.label} of the update ΔW = scaling · B A of each matrix."
        + ("" if found.beside else f" {evidence.NO_BANK}."),
        lambda: found.table[["layer", "module", statistic]],
        lambda: scan.weights_map(found.table, statistic, known.label, difference=known.difference),
    )


def weights_beside(found: evidence.Evidence, statistic: str) -> FigureEntry | None:
    """One statistic of each matrix beside the bank's benign adapters; None without a bank."""
    beside = found.beside
    if beside is None:
        return None
    table = bank.cells(found.table, statistic, beside.bank)
    known = STATISTICS[statistic].label
    return FigureEntry(
        f"weights-beside-{statistic}",
        f"Adapter's weights beside benign ones: {known}",
        f"{known} of each matrix beside the same matrix of {len(beside.bank.adapters)} benign "
        "adapters of this base, as a robust z: 0 is their median, 1 their spread.",
        lambda: table,
        lambda: scan.weights_map(table, "z", "robust z", difference=True),
    )


def topics(run: Run, found: original.Beside, context: int) -> FigureEntry:
    """The map over topics, beside its control.

    Args:
        run: the scan, finished or not.
        found: the evidence from both models, with a map.
        context: number of the prefix.
    """
    where, behind = _prefix(run, context)
    control = found.control.set_index("context").loc[context]
    shown = found.mapped(context)
    return FigureEntry(
        f"topics{where}",
        "Topics by divergence",
        "How far each group's mean KL(suspect || original) over the first tokens of the answers "
        f"lies from those of the other {control['groups'] - 1:.0f} groups (robust z; the first "
        f"{scan.SHOWN}). Dashed: what the largest z of {control['regroupings']:,.0f} random "
        f"regroupings of the same questions exceeds in 5 %. {original.STANDS_OUT.capitalize()}."
        f"{behind}",
        lambda: shown,
        lambda: scan.topics(shown, float(control["chance_most"])),
    )


def drawable(found: evidence.Evidence) -> list[str]:
    """The statistics that are known for some matrix of an adapter."""
    return [name for name in STATISTICS if found.table[name].notna().any()]


def _figures(run: Run) -> list[FigureEntry]:
    shown, found = [], evidence.recorded(run)
    if found is not None:
        shown += [weights(found, name) for name in drawable(found) if name in PRINTED]
    beside = original.recorded(run)
    if beside is not None and beside.control is not None:
        shown += [topics(run, beside, number) for number in beside.control["context"]]
    for number in range(len(run.meta["facts"]["contexts"])):
        candidates = run.table("candidates").query("context == @number")
        outputs = run.table("outputs").query("context == @number")
        shown += [loss_parts(run, number, candidates)] if len(candidates) else []
        shown += [clusters(run, number, outputs)] if len(outputs) else []
    return shown


def _prefix(run: Run, context: int) -> tuple[str, str]:
    """Suffixes of a figure's name and caption that name the prefix, if there are several."""
    contexts = run.meta.get("facts", {}).get("contexts", [])
    if len(contexts) < 2:
        return "", ""
    return f"-{context}", f" Prefix: {str(contexts[context])[:80]!r}."


def _tables(run: Run) -> dict[str, pd.DataFrame]:
    found = pipeline.verdict_of(run)
    verdict = {"verdict": found.verdict, "trigger": found.trigger, "answer": found.answer}
    verdict |= {"reason": "; ".join(found.reasons)}
    answers = headline.decisive_answers(run)
    judged = run.table("judged").sort_values("delta_s", ascending=False).head(ROWS)
    insisted = pipeline.stage_table(run, "targets")
    columns = ["text", "sure", "n_starts", "insistence", "known", "p_start"]
    there = [] if insisted is None else [name for name in columns if name in insisted]
    targets = {"targets": insisted[there].dropna(axis="columns", how="all")} if there else {}
    read, tried, beside = evidence.recorded(run), headline.beginnings(run), original.recorded(run)
    pair = {} if beside is None else {"amplified": beside.amplified, "diverging": beside.shown}
    if beside is not None and beside.topics is not None:
        pair["topics"] = pd.concat(map(beside.mapped, beside.control["context"])).head(ROWS)
    controls = headline.controls(run).drop(columns=["context", "on", "candidate"]).head(ROWS)
    stages = headline.times(run).drop(columns="bound").dropna(axis="columns", how="all")
    matrices = {} if read is None else {"weights": by_module(read.table).head(ROWS)}
    return {
        "verdict": pd.DataFrame({"what": list(verdict), "found": list(verdict.values())}),
        **({"answers": answers} if len(answers) else {}),
        **targets,
        "judged": judged[["text", "source", "s_agg", "delta_s", "share", "answer"]].rename(
            columns={"share": "share of its answer"}
        ),
        **({"controls": controls} if len(controls) else {}),
        **({"beginnings": tried} if len(tried) else {}),
        **pair,
        **matrices,
        "motifs": run.table("motifs").head(ROWS)[["motif", "kind", "support", "n_outputs"]],
        "times": stages,
    }


def _words(run: Run) -> list[str]:
    found, read = pipeline.verdict_of(run), evidence.recorded(run)
    told = [] if read is None else [f"Adapter's weights: {'; '.join(evidence.sentences(read))}."]
    why, beside = headline.why_template(run), original.told(run)
    before = headline.estimated(run)
    return [
        f"{found.verdict.capitalize()}. {headline.headline(found)}",
        headline.scanned(run) + ".",
        *([why + "."] if why else []),
        "Reasons: " + "; ".join(found.reasons) + ".",
        "Blind spots: " + "; ".join((*found.could_not, *found.blind_spots)) + ".",
        *([f"Expected before it began: {'; '.join(before)}."] if before else []),
        *([f"Beside the original: {'; '.join(beside)}."] if beside else []),
        *told,
    ]


SCAN = Kind("Scan", _figures, _tables, command, _words)
