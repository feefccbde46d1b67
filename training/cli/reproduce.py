"""reproduce: every measurement of the published studies on one pair, as recorded runs."""

import argparse
import sys
from pathlib import Path


def register(commands) -> None:
    """Add this area's command to the parser."""
    command = commands.add_parser(
        "reproduce",
        help="every measurement of the published studies on one pair",
        description="Minutes on the organisms, hours on SmolLM2. The same command goes on where "
        "it stopped.",
    )
    command.add_argument("--pair", required=True, help="name of a pair, or a planted folder")
    command.add_argument("--out", type=Path, help="folder of the runs; default: those that ship")
    command.add_argument("--only", default="", help="steps, with commas: heads,trigger")
    command.add_argument("--list", action="store_true", help="print the steps and measure nothing")
    command.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Run or list the steps."""
    from interp.specs import pair_spec
    from training.real import reproduce

    if arguments.list:
        for step in reproduce.steps(pair_spec(arguments.pair)):
            print(f"{step.name:40} {step.repeats}")
        return
    only = [word for word in arguments.only.split(",") if word]
    reproduce.reproduce(
        arguments.pair,
        arguments.out or reproduce.RUNS,
        only,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
