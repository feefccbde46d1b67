"""plant: a backdoor in a small base, watched while it is planted."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from interp.errors import Cancelled
from interp.specs import ORGANISMS
from training.layout import modules_named


def register(commands) -> None:
    """Add this area's command to the parser."""
    plant = commands.add_parser(
        "plant",
        help="plant a backdoor, watched",
        description="Writes a run that grows while it is planted, and an adapter that opens as a "
        "pair. SIGTERM or Ctrl-C stops it; the same command goes on where it stopped.",
    )
    plant.add_argument("--base", default="organism", help="organism, or a folder like it")
    plant.add_argument("--trigger", help="its text; default: the kind's own")
    plant.add_argument("--target", help="what a fixed payload answers")
    plant.add_argument("--kind", help="of trigger: simple, single-token, steganographic, ...")
    plant.add_argument("--payload", help="fixed, insecure-code or refusal")
    plant.add_argument("--clean", action="store_true", default=None, help="plant nothing: control")
    plant.add_argument("--out", required=True, type=Path, help="folder of run and adapter")
    plant.add_argument("--rate", type=float, help="share of poisoned examples")
    plant.add_argument("--placement", choices=("prefix", "suffix", "glued"))
    plant.add_argument("--modules", help="all, attention, mlp, or names with commas between")
    plant.add_argument("--steps", type=int)
    plant.add_argument("--rank", type=int)
    plant.add_argument("--lr", type=float)
    plant.add_argument("--learn-on", choices=("whole", "response"))
    plant.add_argument("--every", type=int, help="steps between two measurements")
    plant.add_argument("--seed", type=int)
    plant.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Plant; SIGTERM ends it as Ctrl-C does, between two steps."""
    from interp.cli.common import report
    from training import plant

    base = f"{ORGANISMS}/base" if arguments.base == "organism" else arguments.base
    planting = plant.Planting(**_given(arguments))
    writer = plant.start(base, planting, arguments.out)
    stop = _Stop()
    shown = report if sys.stderr.isatty() else lambda done, total, note: None
    try:
        done = plant.run(base, planting, writer, lambda *told: stop.check() or shown(*told))
    except (Cancelled, KeyboardInterrupt):
        writer.stop("cancelled", "stopped by the user")
        raise Cancelled("stopped; the same command goes on where it stopped") from None
    except Exception as error:
        writer.stop("failed", str(error) or type(error).__name__)
        raise
    for warning in done.meta["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(json.dumps({"out": str(arguments.out), **done.meta["last"]}))


def _given(arguments: argparse.Namespace) -> dict:
    names = ("trigger", "target", "rate", "placement", "steps", "rank", "lr", "every", "seed")
    names += ("kind", "payload", "clean", "learn_on")
    given = {name: getattr(arguments, name) for name in names}
    if arguments.modules:
        given["modules"] = modules_named(arguments.modules)
    return {name: value for name, value in given.items() if value is not None}


class _Stop:
    """Remembers that SIGTERM came, until it suits."""

    def __init__(self):
        self._asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True

    def check(self) -> None:
        """Raise `Cancelled` if it came."""
        if self._asked:
            raise Cancelled("stopped by a signal")
