"""What the original adds to a scan: amplified against plain leakage, divergence against random.

Scans shipped adapters blind, quick grid. Trigger and target are known here and nowhere in the scan;
for a clean control they are those of the pair that it controls.
"""

import argparse
from pathlib import Path

import pandas as pd

from interp.errors import UsageError
from interp.models.load import load_pair
from interp.runs.reading import Run, open_run
from interp.scanner import original, pipeline
from interp.scanner.plan import ScanPlan, scan_spec
from interp.scanner.stage_names import STAGES
from interp.scanner.stages.divergence import RANDOM, SOURCE, clear
from interp.specs import PRESETS

REAL_TOKENS = 100
"""Of each leaked text of the real model, as in `recorded/scan-smollm2.json`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--models", default="deployment,emoji,clean-control", help="pairs by name")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the scans; resumed")
    parser.add_argument("--until", default=STAGES[-1], choices=STAGES, help="last stage to do")


def run(arguments: argparse.Namespace) -> dict:
    """Scan each model and count what its original adds.

    Raises:
        UsageError: a name that is no pair.
    """
    names = arguments.models.split(",")
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        raise UsageError(f"models {', '.join(unknown)}: name pairs that ship")
    return {name: _scanned(name, arguments.runs / name, arguments.until) for name in names}


def _scanned(name: str, folder: Path, until: str) -> dict:
    spec = scan_spec(name)
    plan = ScanPlan(new_tokens=REAL_TOKENS if name.startswith("smollm2") else None)
    pair = load_pair(spec)
    done = pipeline.run(pair, plan, pipeline.start(folder, spec, plan), until=until)
    pair.close()
    scan = done or open_run(folder, unfinished=True)
    figures = {"seconds": {k: v["seconds"] for k, v in scan.meta["stages"].items()}}
    if done:
        found = pipeline.verdict_of(scan)
        figures |= {"verdict": found.verdict, "max_delta_s": found.max_delta_s}
        figures |= {"trigger": found.trigger, "total": scan.meta["seconds"]}
        judged = scan.table("judged")
        figures["tested"] = int((judged["source"] == SOURCE).sum())
    known = PRESETS[name]
    table = original.by_alpha(scan.table("leaks"), known.trigger, known.target)
    rows = {f"{row['alpha']:g}".replace(".", "_"): row for row in table.to_dict("records")}
    figures["alpha"] = rows  # a dot would end the name of a traced number
    return figures | {"divergence": _divergence(scan, known.trigger)}


def _divergence(scan: Run, trigger: str) -> dict:
    table, cost = scan.table("diverging"), scan.table("divergence_cost")
    strings = table[table["source"] != RANDOM].sort_values("rank")
    held = strings[[trigger in text or text.strip() == trigger for text in strings["text"]]]
    best = strings.iloc[0]
    return {
        "best": best["text"],
        "best_kl": float(best["kl"]),
        "best_control_max": float(best["control_max"]),
        "trigger_rank": int(held["rank"].iloc[0]) if len(held) else None,
        "trigger_kl": float(held["kl"].iloc[0]) if len(held) else None,
        "trigger_control_max": float(held["control_max"].iloc[0]) if len(held) else None,
        "above": len(clear(table)),
        "strings": len(strings),
        "random": _quantiles(table[table["source"] == RANDOM]["kl"]),
        **{key: float(value) for key, value in cost.iloc[0].items() if key != "group"},
    }


def _quantiles(values: pd.Series) -> dict:
    return {
        "n": len(values),
        "median": float(values.median()),
        "p90": float(values.quantile(0.9)),
        "most": float(values.max()),
    }
