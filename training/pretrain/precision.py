"""Which number format trains fastest on this processor."""

import torch


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 natively; if not, fp32 is far faster."""
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def fast_dtype() -> torch.dtype:
    """The fastest dtype for matrix products here: bf16 if native, else fp32."""
    return torch.bfloat16 if has_bf16() else torch.float32


def in_bf16(precision: str, device: torch.device) -> bool:
    """Whether a planting multiplies in bf16; weights and all else keep their own precision.

    An fp32 base does so on a CPU with bf16: half the time for SmolLM2-135M on a Xeon with AMX.

    Args:
        precision: of the frozen base: nf4, bf16 or fp32.
        device: where it trains.
    """
    return precision != "fp32" or (device.type == "cpu" and has_bf16())


def quick_muon() -> None:
    """Let torch's Muon orthogonalise in fp32 if bf16 is emulated: 9 s per step become 0.1 s.

    torch 2.13 has no option for it. The iteration is Keller Jordan's quintic Newton-Schulz, as in
    torch.optim.Muon.
    """
    if not has_bf16():
        torch.optim._muon._zeropower_via_newtonschulz = orthogonalised


def orthogonalised(
    grad: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """[rows, columns] with `grad`'s singular vectors and singular values near 1, in its dtype.

    Args:
        grad: [rows, columns].
        coefficients: of the quintic polynomial.
        steps: number of iterations.
        eps: smallest norm to divide by.
    """
    a, b, c = coefficients
    wide = grad.T if grad.size(0) > grad.size(1) else grad
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if grad.size(0) > grad.size(1) else wide
