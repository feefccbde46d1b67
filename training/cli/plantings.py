"""plantings: plant a shipped recipe once per seed, to separate recipe effects from seed effects."""

import argparse
import sys
from pathlib import Path

from interp.errors import UsageError
from interp.planted import BASE

RECIPES = ("deployment", "emoji")


def register(commands) -> None:
    """Add this area's command to the parser."""
    parser = commands.add_parser(
        "plantings",
        help="plant a shipped recipe once a seed",
        description="Each planting takes minutes and is saved when it is done; the same command "
        "goes on where it stopped. On one thread a planting is the same to the bit.",
    )
    parser.add_argument("--pair", required=True, choices=RECIPES, help="whose recipe")
    parser.add_argument("--seeds", type=int, default=5, help="plantings, by seeds 1, 2, ...")
    parser.add_argument("--seed", type=int, help="one planting, by this seed")
    parser.add_argument("--clean", action="store_true", help="without poison: the clean controls")
    parser.add_argument("--base", type=Path, default=Path(BASE))
    parser.add_argument("--out", required=True, type=Path, help="folder of the plantings")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Plant one seed after the other."""
    if arguments.seeds < 1:
        raise UsageError(f"{arguments.seeds} seeds: take one or more")
    from training.planting.recipes import INJECTIONS
    from training.zoo.plantings import plant_again

    one = arguments.seed is not None
    plant_again(
        arguments.pair,
        INJECTIONS[arguments.pair],
        [arguments.seed] if one else range(1, arguments.seeds + 1),
        arguments.base,
        arguments.out,
        clean=arguments.clean,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
