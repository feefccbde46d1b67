"""On a GPU: are its numbers the CPU's, and how long does a 7B take? Short enough for ten minutes.

Two shipped pairs in fp32, bf16 and NF4 are measured on the CPU and on the device: attention to the
trigger, the logits of the answer's first token, and which prompts fire. fp32 has to agree within
`FP32`. bf16 and NF4 (whose products are bf16 too) have to agree within `NOISE` times what bf16
itself changes on the CPU, against fp32. Then a random checkpoint of Mistral-7B's shape is opened.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch

from benchmarks.speed import seven_b
from interp.attention.heads import head_attention
from interp.errors import UsageError
from interp.forward.activation import decisions, target_ids
from interp.forward.conditions import build_prompts
from interp.metrics import MODELS
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.batching import left_padded
from interp.prompts.question import Question
from interp.prompts.sets import load_prompt_set
from interp.prompts.spans import TokenizedPrompt
from interp.specs import PRESETS, Precision, pair_spec

PAIRS = ("deployment", "smollm2-deployment")
FP32 = {"l_attn": 1e-5, "logits": 1e-3}
"""Largest differences in fp32: sums in another order, no TF32."""
NOISE = 2.0
"""Allowed difference of a bf16 computation, in units of bf16's own against fp32 on the CPU."""


@dataclass(frozen=True)
class Measured:
    """What one device gives."""

    l_attn: np.ndarray
    """[model, prompt, head of all layers] mean attention to the trigger."""
    logits: np.ndarray
    """[model, prompt, vocabulary] at the last token of the triggered prompt."""
    fired: tuple[bool, ...]
    """Whether the suspect answers the target, by prompt."""
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--device", default="cuda", help="cpu checks this script, nothing else")
    parser.add_argument("--pairs", nargs="+", default=PAIRS, choices=tuple(PRESETS))
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--layers", type=int, default=32, help="of the 7B shape; 0: leave it out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dir", help="where to make the temporary 7B checkpoint, 15 GB")


def run(arguments: argparse.Namespace) -> dict:
    """Differences and their bounds by pair and precision, `equal`, and the times of a 7B."""
    if min(arguments.prompts, arguments.repeats) < 1 or arguments.layers < 0:
        raise UsageError("prompts and repeats: 1 or more; layers: 0 or more")
    figures: dict = {"device": _named(arguments.device), "torch": torch.__version__}
    for name in arguments.pairs:
        figures |= agreement(name, arguments.device, arguments.prompts)
    figures["equal"] = all(value for key, value in figures.items() if key.endswith("_equal"))
    if arguments.layers:
        figures |= {
            f"7b_{name}": value
            for name, value in seven_b.made(
                arguments.layers,
                arguments.repeats,
                within=arguments.dir,
                device=arguments.device,
                scan=True,
            ).items()
        }
    return figures


def agreement(name: str, device: str, n_prompts: int) -> dict:
    """Differences between a device and the CPU on a shipped pair, with their bounds.

    Args:
        name: of a preset with a trigger.
        device: as for `load_pair`.
        n_prompts: of the pair's own prompt set.

    Returns:
        For each precision `PAIR_PRECISION_`: `l_attn`, `logits` (largest absolute differences),
        `l_attn_bound`, `logits_bound`, `fired_alike` (share of prompts), `equal`, `speedup`.
    """
    cpu = {p: measured(name, p, "cpu", n_prompts) for p in get_args(Precision)}
    noise = {field: _gap(cpu["bf16"], cpu["fp32"], field) for field in FP32}
    figures: dict = {}
    for precision in get_args(Precision):
        found, mark = measured(name, precision, device, n_prompts), f"{name}_{precision}"
        bounds = FP32 if precision == "fp32" else {f: NOISE * gap for f, gap in noise.items()}
        gaps = {field: _gap(found, cpu[precision], field) for field in FP32}
        alike = [a == b for a, b in zip(found.fired, cpu[precision].fired, strict=True)]
        figures |= {f"{mark}_{field}": gap for field, gap in gaps.items()}
        figures |= {f"{mark}_{field}_bound": bound for field, bound in bounds.items()}
        figures[f"{mark}_fired_alike"] = sum(alike) / len(alike)
        # In bf16 only counted: two best tokens that tie may come out either way.
        same = precision != "fp32" or all(alike)
        figures[f"{mark}_equal"] = same and all(gaps[field] <= bounds[field] for field in FP32)
        figures[f"{mark}_speedup"] = cpu[precision].seconds / found.seconds
    return figures


def measured(name: str, precision: Precision, device: str, n_prompts: int) -> Measured:
    """Attention, logits and answers of a pair on one device; the second of two rounds is timed."""
    pair = load_pair(pair_spec(name, precision=precision), device=device)
    spec = pair.spec
    question = Question(trigger=spec.trigger, prompt_set=spec.prompt_set, template=spec.template)
    prompts = load_prompt_set(spec.prompt_set).prompts[:n_prompts]
    built = build_prompts(pair, prompts, question, spec.trigger)
    answer = target_ids(pair, spec.target, built[0])
    for _ in range(2):
        begun = time.perf_counter()
        table = head_attention(pair, built, batch_size=len(built))
        fired = decisions(pair, "suspect", [prompt.ids for prompt in built], answer)["fired"]
        seconds = time.perf_counter() - begun
    logits = np.stack([_last_logits(pair, which, built) for which in MODELS])
    heads = [table[table["model"] == which]["l_attn"].to_numpy() for which in MODELS]
    pair.close()
    return Measured(np.stack(heads), logits, tuple(map(bool, fired)), seconds)


def _last_logits(pair: ModelPair, which, built: Sequence[TokenizedPrompt]) -> np.ndarray:
    ids, mask = left_padded([prompt.ids for prompt in built])
    mask = torch.ones_like(ids) if mask is None else mask
    with pair.use(which) as model, torch.inference_mode():
        out = model(
            input_ids=ids.to(pair.device), attention_mask=mask.to(pair.device), logits_to_keep=1
        )
    return out.logits[:, -1].float().cpu().numpy()


def _gap(one: Measured, other: Measured, field: str) -> float:
    return float(np.abs(getattr(one, field) - getattr(other, field)).max())


def _named(device: str) -> str:
    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name(torch.device(device))
    return device
