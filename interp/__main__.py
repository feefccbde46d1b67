"""python -m interp <command>: measure a pair from the terminal and write a run.

Exit codes: 0 done, 3 failed job, 4 usage error. For `scan`, 0, 1 and 2 are the verdict.
"""

import argparse

from interp.cli.guard import enter, guarded


def main(argv: list[str] | None = None) -> int:
    """Run one command. Heavy imports wait until the arguments have been checked."""
    return guarded("interp", lambda: _parser().parse_args(argv), lambda told: told.command(told))


def _parser() -> argparse.ArgumentParser:
    from interp.cli.common import Parser

    parser = Parser(prog="python -m interp", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(title="commands", required=True, parser_class=Parser)
    register(commands)
    return parser


def register(commands) -> None:
    """Add every command of this package to a program's."""
    from interp.cli import causes, figures, neighbours, probes, study, trigger
    from interp.cli.scanning import scan, weights

    for area in (study, neighbours, scan, weights, trigger, causes, probes, figures):
        area.register(commands)


if __name__ == "__main__":
    enter(main)
