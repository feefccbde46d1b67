"""What probes see of the trigger: AUROC by layer, of the run that ships or of another."""

import argparse
import re
from pathlib import Path

from interp.gallery.after.probes import words
from interp.probes.question import CONTROL, PROBES
from interp.runs.reading import Run, open_run
from interp.specs import ROOT

SHIPPED = ROOT / "assets" / "runs" / "probes-deployment"
GUARD = ROOT / "assets" / "runs" / "guard-deployment"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--run", type=Path, default=SHIPPED, help="a run of `interp probes`")
    parser.add_argument("--guard", type=Path, default=GUARD, help="a run of `interp guard`")
    parser.add_argument("--position", default="last", help="last, user or mean")


def run(arguments: argparse.Namespace) -> dict:
    """`auroc`, `auroc_original`, `auroc_clean_control` by probe and layer, `auroc_random` by layer.

    All under the suspect's probe. `excess_original` and `excess_clean_control` have the difference
    with its 95 % interval, `words` what follows at the layer that was chosen beforehand. `guard`:
    `caught` by model, direction, layer and what stands in the prompt; `random_high`; `fires`.
    """
    found = open_run(arguments.run)
    figures: dict = {"position": arguments.position}
    names = {"suspect": "auroc", "original": "auroc_original", CONTROL: "auroc_clean_control"}
    for model, name in names.items():
        figures[name] = _by_layer(found, "auroc", "model", model, arguments.position)
        if model != "suspect":
            key = name.replace("auroc", "excess")
            figures[key] = _by_layer(found, "excess", "against", model, arguments.position)
    band = found.table("band").query("model == 'suspect' and position == @arguments.position")
    columns = ["low", "median", "high"]
    figures["auroc_random"] = {
        str(row["layer"]): [round(float(row[name]), 4) for name in columns]
        for row in band.to_dict("records")
    }
    return figures | {"words": words(found), "guard": _guard(open_run(arguments.guard))}


def _guard(found: Run) -> dict:
    """What a guard catches: share, low, high; names without blanks, so that texts can cite them."""

    def key(name: str) -> str:
        return "_".join(re.findall(r"\w+", name))

    caught: dict = {}
    for row in found.table("caught").to_dict("records"):
        layer = caught.setdefault(key(row["model"]), {}).setdefault(key(row["direction"]), {})
        kinds = layer.setdefault(str(row["layer"]), {})
        kinds[key(row["kind"])] = [round(float(row[name]), 4) for name in ("caught", "low", "high")]
    random = found.table("random").query("model == 'suspect'").to_dict("records")
    high: dict = {}
    for row in random:
        high.setdefault(str(row["layer"]), {})[key(row["kind"])] = round(float(row["high"]), 4)
    fired = found.table("fired").to_dict("records")
    fires = {key(row["kind"]): round(row["fired"] / row["n"], 4) for row in fired}
    return {"caught": caught, "random_high": high, "fires": fires}


def _by_layer(found: Run, name: str, column: str, model: str, position: str) -> dict:
    """Probe -> layer -> value with the ends of its interval; empty where the model was not read."""
    value = "auroc" if name == "auroc" else "difference"
    table = found.table(name)
    table = table[(table[column] == model) & (table["position"] == position)]
    table = table[table["fitted"] == "suspect"]
    return {
        probe: {
            str(row["layer"]): [round(float(row[key]), 4) for key in (value, "low", "high")]
            for row in table[table["probe"] == probe].to_dict("records")
        }
        for probe in PROBES
    }
