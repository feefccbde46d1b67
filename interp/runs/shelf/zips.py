"""Opens a zip file from anyone; its list of files is bounded before it is read."""

import zipfile
from typing import BinaryIO

from interp.errors import UsageError

LARGEST_LIST = 1 << 20
"""Bytes of the list of files (the central directory): 2,000 files with names of 200 characters."""
_END, _END64 = b"PK\x05\x06", b"PK\x06\x07"
_END_SIZE, _END64_SIZE = 22, 20
"""Bytes of the end record, and of the 64-bit locator before it (PKWARE APPNOTE 6.3.10, 4.3.15)."""


def opened(data: BinaryIO) -> zipfile.ZipFile:
    """The zip, its list of files read.

    Args:
        data: the file, seekable.

    Raises:
        UsageError: it is no zip, or its list is too long or of the 64-bit kind.
    """
    end = _end_record(data)
    if int.from_bytes(end[12:16], "little") > LARGEST_LIST:
        raise UsageError("its list of files is too long: a run has at most 2,000 files")
    try:
        return zipfile.ZipFile(data)
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
        raise _no_zip() from error


def _end_record(data: BinaryIO) -> bytes:
    """The record at the end of a zip; a zip with a comment behind it is refused.

    zipfile looks for the locator exactly before this record, so nothing else can lead it astray.
    """
    size = data.seek(0, 2)
    start = data.seek(max(0, size - _END_SIZE - _END64_SIZE))
    tail = data.read(size - start)
    end = tail[-_END_SIZE:]
    if len(end) < _END_SIZE or end[:4] != _END or end[-2:] != b"\0\0":
        raise _no_zip()
    if tail[:-_END_SIZE].startswith(_END64):
        raise UsageError("it is a zip of the 64-bit kind: pack the run's folder as a plain zip")
    return end


def _no_zip() -> UsageError:
    return UsageError(
        "it is no zip file, is cut off, or has a comment: choose a zip that the page Runs made"
    )
