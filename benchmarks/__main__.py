"""`python -m benchmarks NAME [--json FILE]`: run one benchmark, print its figures.

A benchmark is a module of a room of this package with `run(arguments) -> dict` and
`add_arguments(parser)`. The JSON holds the figures under the names that the module gives them,
so that they can be compared from version to version.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

from interp.cli.guard import enter, guarded


def main(words: list[str] | None = None) -> int:
    """Run the benchmark named on the command line; exit 3 on failure, 4 on usage."""
    words = sys.argv[1:] if words is None else words
    return guarded("benchmarks", lambda: _parsed(words), _run)


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.error = _usage_error(parser)
    folder = Path(__file__).parent
    modules = {
        file.stem: f"benchmarks.{file.parent.name}.{file.stem}"
        for file in sorted(folder.glob("*/*.py"))
        if "\ndef run(" in file.read_text(encoding="utf-8")
    }
    parser.add_argument("name", choices=sorted(modules))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    for before, word in zip(["", *words], words, strict=False):
        # Options may come before the name, so search for the name; skip the value of --json.
        if word in modules and before != "--json":
            module = importlib.import_module(modules[word])
            module.add_arguments(parser)
            parser.set_defaults(benchmark=module.run)
            break
    return parser.parse_args(words)


def _run(arguments: argparse.Namespace) -> None:
    figures = arguments.benchmark(arguments)
    for name, value in figures.items():
        print(f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _usage_error(parser: argparse.ArgumentParser):
    def error(message: str) -> None:
        print(f"{parser.prog}: {message}", file=sys.stderr)
        sys.exit(4)

    return error


if __name__ == "__main__":
    enter(main)
