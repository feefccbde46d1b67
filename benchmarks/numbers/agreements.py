"""Does one metric of heads predict another? Spearman's rho on the causal runs that ship."""

import argparse

from interp.runs.reading import open_run
from interp.specs import ROOT
from interp.stats import agreements, holm, per_group

RUNS = ("causal-deployment", "causal-emoji")
AGAINST = (
    "patching_effect",
    "insertion_effect",
    "ablation_loss",
    "indirect",
    "direct",
    "pattern_tv",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument(
        "--runs", default=",".join(RUNS), help="names of runs that ship, with commas"
    )


def run(arguments: argparse.Namespace) -> dict:
    """Run -> metric -> its rho with Δ_rel; p is Holm-corrected for all tests of these runs."""
    tables, sizes = [], []
    for name in arguments.runs.split(","):
        recorded = open_run(ROOT / "assets/runs" / name)
        size = per_group(recorded.meta["facts"])
        heads = recorded.table("heads")
        tables.append((name, heads, size))
        sizes.append(size)
    # Each run is a table of heads: their tests are corrected together.
    found = {
        name: agreements(
            heads, [("delta_rel", one) for one in AGAINST if one in heads], per_group=size
        )
        for name, heads, size in tables
    }
    corrected = iter(holm([p for table in found.values() for p in table["p"]]))
    figures: dict = {"tests": sum(len(table) for table in found.values()), "per_group": sizes[0]}
    for name, table in found.items():
        figures[name.removeprefix("causal-")] = {
            row["y"]: {key: round(float(row[key]), 4) for key in ("rho", "low", "high", "p")}
            | {"p_holm": round(float(next(corrected)), 4), "n": int(row["n"])}
            for row in table.to_dict("records")
        }
    for name, heads, size in tables:
        key = name.removeprefix("causal-")
        one = agreements(heads, [("attribution", "patching_effect")], per_group=size).iloc[0]
        figures[key]["attribution"] = {
            k: round(float(one[k]), 4) for k in ("rho", "low", "high")
        } | {"n": int(one["n"])}
    return figures
