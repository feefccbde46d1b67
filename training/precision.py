"""Which number format trains fastest on this processor."""

import torch


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 itself; where it does not, fp32 is far faster."""
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def fast_dtype() -> torch.dtype:
    """What matrix products are best computed in here: bf16 where it is native, else fp32."""
    return torch.bfloat16 if has_bf16() else torch.float32
