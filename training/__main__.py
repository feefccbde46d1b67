"""`python -m training COMMAND`: make the corpus, pre-train, plant a backdoor, measure the card."""

from interp.cli.common import Parser
from interp.cli.guard import enter, guarded


def main(argv: list[str] | None = None) -> int:
    """Runs one command; failures are one line on stderr, exit 3, usage errors exit 4."""
    return guarded("error", lambda: _parser().parse_args(argv), lambda told: told.command(told))


def _parser() -> Parser:
    parser = Parser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(title="commands", required=True, parser_class=Parser)
    register(commands)
    return parser


def register(commands) -> None:
    """Add every command of this package to a program's."""
    from training.cli import (
        budget,
        corpus,
        instructions,
        merge,
        organisms,
        plant,
        plantings,
        removal,
        reproduce,
        zoo,
    )
    from training.cli.after import persist

    planting = (plant, plantings, budget, merge, removal, persist)
    for area in (corpus, instructions, organisms, *planting, reproduce, zoo):
        area.register(commands)


if __name__ == "__main__":
    enter(main)
