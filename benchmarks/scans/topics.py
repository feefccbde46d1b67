"""The map over topics of adapters, beside random regroupings of the same questions.

Measures the map alone: no scan, no search for strings. Run it once for each model for numbers that
are known early; the recorded file holds all of them.
"""

import argparse
import time

import pandas as pd

from interp.errors import UsageError
from interp.models.load import load_pair
from interp.scanner.beside import topics
from interp.scanner.plan import scan_spec
from interp.scanner.search.frames import build_frame

NAMED = 12
"""Topics that the figures name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument(
        "--models",
        default="deployment,emoji,clean-control,deployment-clean",
        help="LABEL=ADAPTER:TEMPLATE, with commas between; default template: chat",
    )


def run(arguments: argparse.Namespace) -> dict:
    """The map of each adapter.

    Raises:
        UsageError: a model without an original at hand.
    """
    found = {}
    for word in arguments.models.split(","):
        label, _, name = word.rpartition("=")
        name, _, template = name.partition(":")
        found[label or name] = _mapped(name, template or "chat")
    return found


def _mapped(name: str, template: str) -> dict:
    spec = scan_spec(name)
    if spec.original == spec.suspect:
        raise UsageError(f"model '{name}': name an adapter; a map needs the original beside it")
    pair = load_pair(spec)
    start = time.process_time()
    frames = {one.name: build_frame(pair.tokenizer, template, one.prompts) for one in topics.bank()}
    prefix = next(iter(frames.values())).prefix
    rows = [question.plain for frame in frames.values() for question in frame.questions]
    table = pd.DataFrame({"group": [name for name in frames for _ in frames[name].questions]})
    measure, passes = topics.Map(pair, prefix), topics.batches(rows)
    for batch in passes:
        table.loc[batch, "kl"], _ = measure.measured([rows[number] for number in batch])
    pair.close()
    groups, largest = topics.judged(table, seed=0)
    top, second = groups.iloc[0], groups.iloc[1]
    return {
        **topics.control(groups, largest),
        "questions": len(rows),
        "forward_passes": 2 * len(passes) * topics.FIRST,
        "tokens": 2 * (sum(map(len, rows)) + (topics.FIRST - 1) * len(rows)),
        "cpu_s": time.process_time() - start,
        "top": top["group"],
        "kl": float(top["kl"]),
        "second": second["group"],
        "second_z": float(second["z"]),
        "median_kl": float(groups["kl"].median()),
        "above": int(groups["above"].sum()),
        "first": groups[["group", "z", "p", "kl"]].head(NAMED).to_dict("records"),
    }
