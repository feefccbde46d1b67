"""Shared by all commands: the parser, the arguments for models, and how a run ends on errors."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from interp.cli.progress import report
from interp.errors import Cancelled, UsageError
from interp.prompts.formats.fixed import TEMPLATES
from interp.specs import PairSpec, at_strength, pair_spec

if TYPE_CHECKING:
    from interp.models.pair import ModelPair
    from interp.models.plan import PairPlan
    from interp.runs.writing import RunWriter

NAME_HELP = "hub id[@revision][:sub/folder], folder or .gguf file"
TEMPLATE_HELP = f"{', '.join(TEMPLATES)}, or a file with a chat template (Jinja)"
PLACEMENT_HELP = "prefix, suffix, glued, after, random, scattered (pieces: 'one … two')"


class Parser(argparse.ArgumentParser):
    """A parser whose usage errors end like other errors: one line and exit code 4."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with a pointer to `--help`."""
        raise UsageError(f"{message}; see `{self.prog} --help`")


def positive(text: str) -> int:
    """Parse an option's integer above 0."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def not_negative(text: str) -> int:
    """Parse an option's integer of 0 or more, such as a seed."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return number


def pair_arguments(
    command: argparse.ArgumentParser, *, alone: bool = True, dialed: bool = False
) -> None:
    """Add the options that name a pair and describe its backdoor.

    Args:
        command: the command.
        alone: whether the pair's name may stand without `--pair`, as the command's one word.
        dialed: whether it measures the suspect's adapter at another strength, too.
    """
    if alone:
        command.add_argument("named", nargs="?", metavar="PAIR", help="the same as --pair PAIR")
    command.add_argument("--pair", help="a pair known by name: `pairs` lists them")
    command.add_argument("--original", help=f"{NAME_HELP}, instead of --pair")
    command.add_argument("--suspect", help="the same, of a second checkpoint")
    command.add_argument("--adapter", help="the same, of an adapter")
    if dialed:
        command.add_argument(
            "--strength", type=float, default=1.0, help="of the adapter: 0 its base, 1 the suspect"
        )
    command.add_argument("--precision", choices=("nf4", "bf16", "fp32"))
    command.add_argument("--device", help="cpu or cuda; default: what is there")
    command.add_argument("--trigger", help="default: the pair's own")
    command.add_argument("--target", help="default: the pair's own")
    command.add_argument("--template", help=f"{TEMPLATE_HELP}; default: the pair's own")


def named_spec(arguments: argparse.Namespace) -> PairSpec:
    """The spec of the pair that the arguments name; no file is read yet.

    Raises:
        UsageError: no pair or two pairs are named, or a strength that is no finite number.
    """
    names = (arguments.pair, getattr(arguments, "named", None), arguments.original)
    given = [name for name in names if name]
    if len(given) != 1:
        raise UsageError("name the models: either --pair NAME, or --original with a suspect")
    spec = pair_spec(
        given[0],
        arguments.suspect,
        arguments.adapter,
        precision=arguments.precision,
        trigger=arguments.trigger,
        target=arguments.target,
        template=arguments.template,
    )
    return at_strength(spec, getattr(arguments, "strength", 1.0))


def plan_named(arguments: argparse.Namespace) -> PairPlan:
    """The pair that the arguments name, found and checked; no weights are read yet."""
    from interp.models.plan import plan_pair

    plan = plan_pair(named_spec(arguments), device=arguments.device)
    for line in plan.about:
        print(f"model: {line}", file=sys.stderr)
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    return plan


def open_pair(arguments: argparse.Namespace) -> ModelPair:
    """The pair that the arguments name, loaded, with progress on stderr."""
    from interp.models.load import open_plan

    return open_plan(plan_named(arguments), report)


@contextmanager
def run_at(path: Path, kind: str, asked: dict) -> Iterator[RunWriter]:
    """A run that is marked failed or cancelled, with the reason, if the block does not finish it.

    Args:
        path: folder of the run.
        kind: kind of the run, as `RunWriter` takes it.
        asked: the question and the models, as plain values.
    """
    from interp.runs.writing import RunWriter

    with RunWriter(path, kind, {"asked": asked}) as writer:
        yield writer


@contextmanager
def stopping(writer: RunWriter | None, resumes: str | None = None) -> Iterator[None]:
    """Record in a run why it stopped if the block raises an error; the run can be resumed.

    Args:
        writer: writer of the run; None if another process writes it.
        resumes: what the same command does next time, shown to a user who stopped it, such as
            "goes on where it stopped".

    Raises:
        Cancelled: the user stopped it and `resumes` is given.
    """
    try:
        with writer or nullcontext():
            yield
    except (KeyboardInterrupt, Cancelled):
        if resumes is None:
            raise
        raise Cancelled(f"stopped; the same command {resumes}") from None


class Terminated:
    """Remembers a SIGTERM until the program reaches a point where it can stop."""

    def __init__(self):
        self._came = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: object) -> None:
        self._came = True

    def check(self) -> None:
        """Raise `Cancelled` if SIGTERM was received."""
        if self._came:
            raise Cancelled("stopped by a signal")
