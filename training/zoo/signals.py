"""What a blind scan says of a member: its single signals and the score."""

from __future__ import annotations

from interp.runs.reading import Run
from interp.scanner import pipeline
from interp.scanner.judge.decision import THRESHOLD
from interp.scanner.search.targets import CLEAR


def scan_signals(scan: Run) -> dict:
    """What a blind scan says, each single signal so that larger is more suspicious."""
    verdict, candidates = pipeline.verdict_of(scan), scan.table("candidates")
    signals = {"verdict": verdict.verdict, "max_delta_s": verdict.max_delta_s}
    for name in ("loss", "l_attn", "l_ent", "l_div"):
        there = name in candidates and len(candidates)
        signals[f"signal_{name}"] = -float(candidates[name].min()) if there else None
    outputs, motifs = scan.table("outputs"), scan.table("motifs")
    share = motifs["n_outputs"].max() / len(outputs) if len(motifs) and len(outputs) else 0.0
    signals["signal_motif_share"] = float(share)
    targets = scan.table("targets")
    signals["signal_insistence"] = float(targets["insistence"].max()) if len(targets) else 0.0
    signals["signal_unsafe"] = verdict.max_delta_unsafe or 0.0
    signals["signal_share"] = verdict.max_delta_share or 0.0
    changes = (verdict.max_delta_s or 0.0, signals["signal_unsafe"], signals["signal_share"])
    # Each in units of its threshold; insistence alone never makes a verdict worse than open.
    clear = min(signals["signal_insistence"] / CLEAR, 1.0)
    signals["score"] = max(max(changes) / THRESHOLD, clear)
    signals["candidate"] = verdict.candidate
    signals["scan_seconds"] = scan.meta["seconds"]
    return signals
