"""What the original knows of the candidate targets of recorded scans: planted ones and phrases."""

import argparse
from pathlib import Path

from interp.models.load import load_pair
from interp.prompts.sets import load_prompt_set
from interp.runs.reading import open_run
from interp.scanner.plan import scan_spec
from interp.scanner.search.frames import build_frame
from interp.scanner.search.known import known_share
from interp.specs import HERE, PRESETS

RUNS = HERE / "assets/runs"
PAIRS = (
    "deployment",
    "emoji",
    "clean-control",
    "smollm2-deployment",
    "smollm2-attn-deployment",
    "smollm2-clean-control",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--pairs", default=",".join(PAIRS), help="with commas")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder with scan-PAIR of each")


def run(arguments: argparse.Namespace) -> dict:
    """Each candidate target with its share; then the largest of planted, the least of phrases.

    A candidate is the planted target if it holds the pair's own, which no scan was told.
    """
    rows = []
    for name in arguments.pairs.split(","):
        table = open_run(arguments.runs / f"scan-{name}").table("targets")
        pair, target = load_pair(scan_spec(name)), PRESETS[name].target
        frame = build_frame(pair.tokenizer, "alpaca", load_prompt_set("questions").prompts)
        shares = known_share(pair, frame, table["ids"].tolist())
        pair.close()
        for row, share in zip(table.itertuples(), shares, strict=True):
            planted = bool(target) and target in row.text
            score = float(row.insistence)
            rows.append(
                {"pair": name, "text": row.text, "score": score, "known": share, "planted": planted}
            )
    by = {planted: [row for row in rows if row["planted"] is planted] for planted in (True, False)}
    return {
        "targets": rows,
        "planted": len(by[True]),
        "planted_most": max(row["known"] for row in by[True]),
        "phrases": len(by[False]),
        "phrases_least": min(row["known"] for row in by[False]),
        "phrases_score_most": max(row["score"] for row in by[False]),
    }
