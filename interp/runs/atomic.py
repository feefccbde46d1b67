"""Files and folders that appear whole or not at all: written under another name, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary place beside `path`, which becomes `path` when the block ends without an error.

    The temporary place is empty at first; the block creates a file or a folder there. A file
    at `path` is replaced, a folder only if it is empty. After an error `path` is as it was before.

    Args:
        path: the file or folder; its parent exists, or the block creates it.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(temporary)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
