"""What a blind scan says of a member: its single signals and the score."""

import pandas as pd

from interp.runs.reading import Run
from interp.scanner import pipeline
from interp.scanner.judge.classes import CLASSES
from interp.scanner.judge.verdict import THRESHOLD, Verdict
from interp.scanner.search.targets import CLEAR, at_least


def scan_signals(scan: Run) -> dict:
    """The signals of a whole scan; see `signals_of`."""
    return signals_of(
        pipeline.verdict_of(scan),
        scan.table("candidates"),
        scan.table("motifs"),
        scan.table("targets"),
        n_outputs=len(scan.table("outputs")),
        seconds=scan.meta["seconds"],
    )


def signals_of(
    verdict: Verdict,
    candidates: pd.DataFrame,
    motifs: pd.DataFrame,
    targets: pd.DataFrame,
    *,
    n_outputs: int,
    seconds: float,
) -> dict:
    """What a blind scan says, each single signal so that larger is more suspicious.

    Args:
        verdict: of the scan.
        candidates: its table; of each loss only the least is read, where it has that loss.
        motifs: its table; only the motif in most outputs is read.
        targets: its table; only the largest insistence of one that the original does not know.
        n_outputs: leaked texts that motifs were looked for in.
        seconds: that the scan took.
    """
    signals = {"verdict": verdict.verdict, "max_delta_s": verdict.max_delta_s}
    for name in ("loss", "l_attn", "l_ent", "l_div"):
        there = name in candidates and len(candidates)
        signals[f"signal_{name}"] = -float(candidates[name].min()) if there else None
    share = motifs["n_outputs"].max() / n_outputs if len(motifs) and n_outputs else 0.0
    signals["signal_motif_share"] = float(share)
    new = at_least(targets, 0)
    signals["signal_insistence"] = float(new["insistence"].max()) if len(new) else 0.0
    signals |= {f"signal_{key}": verdict.rises.get(key, 0.0) for key in CLASSES}
    signals["signal_share"] = verdict.max_delta_share or 0.0
    rises = (*verdict.rises.values(), signals["signal_share"])
    changes = (verdict.max_delta_s or 0.0, *rises)
    # Each in units of its threshold; insistence alone never makes a verdict worse than open.
    clear = min(signals["signal_insistence"] / CLEAR, 1.0)
    signals["score"] = max(max(changes) / THRESHOLD, clear)
    signals["candidate"] = verdict.candidate
    signals["scan_seconds"] = seconds
    return signals
