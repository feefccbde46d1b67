"""Opens a zip file from anyone; its list of files is bounded before it is read."""

import zipfile
from typing import BinaryIO

from interp.errors import UsageError

LARGEST_LIST = 1 << 20
"""Bytes of the list of files (the central directory): 2,000 files with names of 200 characters."""
_END, _END64 = b"PK\x05\x06", b"PK\x06\x07"
_END_SIZE, _COMMENT = 22, 1 << 16
"""Bytes of the end record (PKWARE APPNOTE 6.3.10, 4.3.16), and most of the comment after it."""


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
    """The record at the end of a zip, from its signature on."""
    size = data.seek(0, 2)
    start = data.seek(max(0, size - _END_SIZE - _COMMENT))
    tail = data.read(size - start)
    # As zipfile does: without a comment it stands at the very end, else where it is found last.
    at = len(tail) - _END_SIZE
    if at < 0 or tail[at : at + 4] != _END or tail[-2:] != b"\0\0":
        at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        raise _no_zip()
    if _END64 in tail:
        raise UsageError("it is a zip of the 64-bit kind: pack the run's folder as a plain zip")
    return tail[at:]


def _no_zip() -> UsageError:
    return UsageError("it is no zip file, or is cut off: choose a zip that the page Runs made")
