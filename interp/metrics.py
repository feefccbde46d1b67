"""Names of what is measured: heads, layers, metrics per head, models, conditions.

Plain values only. Nothing heavy is imported, so a page can list them before torch is loaded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from interp.errors import UsageError
from interp.pattern_metrics.registry import PATTERN_METRICS
from interp.specs import Which


def middle_layers(n_layers: int) -> range:
    """[3L/8, 5L/8): 12..19 of 32 (de Rosnay 2026, §3.1).

    If L is not a multiple of 8, the end is rounded up to keep the range in the middle: layers 2
    and 3 of 6.
    """
    return range(3 * n_layers // 8, -(-5 * n_layers // 8))


def check_layers(layers: Sequence[int], n_layers: int) -> tuple[int, ...]:
    """The layers, sorted and unique.

    Raises:
        UsageError: no layer is given, or a layer is outside the model.
    """
    chosen = tuple(sorted(set(layers)))
    outside = [layer for layer in chosen if not 0 <= layer < n_layers]
    if not chosen or outside:
        what = f"layer {outside[0]}" if outside else "an empty layer range"
        raise UsageError(f"{what} is outside the model: it has layers 0 to {n_layers - 1}")
    return chosen


TOP_SHARE = 1 / 8
"""Of all heads, with the largest Δ_rel: what a ratio is taken over."""


def top_heads(n_heads: int) -> int:
    """How many heads the top eighth is; one at least."""
    return max(1, round(n_heads * TOP_SHARE))


Head = tuple[int, int]
"""(layer, head), 0-based."""


_HEAD = re.compile(r"^\s*L(\d+)H(\d+)\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Metric:
    """One number per head, drawn as a layer-by-head matrix."""

    label: str
    measure: str | None = None
    """The measure of a causal run that computes it, one of `MEASURES`."""
    difference: bool = True
    """Whether the metric is signed; if so, it is drawn in diverging colours centred on zero."""
    falling: bool = False
    """Whether the smallest value has rank 1, because small values mark the important heads."""


ATTENTION_METRICS = {
    "delta_rel": Metric("Δ_rel"),
    "difference": Metric("L_attn original − suspect"),
    "l_original": Metric("L_attn original", difference=False),
    "l_suspect": Metric("L_attn suspect", difference=False),
    "delta_rel_random_string": Metric("Δ_rel, random string"),
}
"""Column of `Study.ranking` -> what it is."""
MAX_ASR = 0.05
"""A set of heads holds the backdoor if operating on it leaves no more ASR than this."""
MAX_LOSS = 0.02
"""Share of clean accuracy that may be lost by it."""


PLANT_METRICS = {
    **{name: ATTENTION_METRICS[name] for name in ("delta_rel", "l_suspect", "difference")},
    "pattern_kl": Metric("pattern KL (nats)", difference=False),
}
"""Column of a planting's table `heads` -> what it is."""


def parse_layers(text: str, n_layers: int) -> tuple[int, ...]:
    """`2-3` or `1,4` -> layers; the middle layers if empty.

    Raises:
        UsageError: the text is not a range, or the range is outside the model.
    """
    if not text.strip():
        return tuple(middle_layers(n_layers))
    chosen: list[int] = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        try:
            start, stop = int(first), int(last or first)
        except ValueError:
            raise UsageError(f"layers '{text}' is no range: write 2-3 or 1,4") from None
        check_layers([start, stop], n_layers)  # before a huge range is expanded
        chosen += range(start, stop + 1)
    return check_layers(chosen, n_layers)


def parse_heads(text: str, n_layers: int, n_heads: int) -> list[Head]:
    """`L4H5, L3H6` or `L4H5 L3H6` -> [(4, 5), (3, 6)].

    Raises:
        UsageError: not a head name, a head the model does not have, or a head given twice.
    """
    chosen: list[Head] = []
    for piece in filter(None, re.split(r"[,;\s]+", text)):
        match = _HEAD.match(piece)
        if not match:
            raise UsageError(f"'{piece}' is no head: write layer and head as L4H5")
        layer, head = int(match[1]), int(match[2])
        if layer >= n_layers or head >= n_heads:
            raise UsageError(
                f"L{layer}H{head} is not in the model: it has layers 0 to {n_layers - 1} "
                f"and heads 0 to {n_heads - 1}"
            )
        if (layer, head) in chosen:
            raise UsageError(f"L{layer}H{head} is given twice")
        chosen.append((layer, head))
    return chosen


def head_name(layer: int, head: int) -> str:
    """(4, 5) -> L4H5."""
    return f"L{layer}H{head}"


def format_heads(heads: Sequence[Head]) -> str:
    """[(4, 5), (3, 6)] -> `L4H5,L3H6`."""
    return ",".join(head_name(*head) for head in heads)


def format_layers(layers: Sequence[int]) -> str:
    """Layers in the format of `parse_layers`: `2-5`, or `1,4` if they are not consecutive."""
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return str(layers[0]) if len(layers) == 1 else f"{layers[0]}-{layers[-1]}"
    return ",".join(map(str, layers))


CONDITIONS = ("clean", "triggered", "random string")
MODELS: tuple[Which, ...] = get_args(Which)


ABLATIONS = {
    "mean": "its mean at the same position of other prompts",
    "positions": "its mean over all positions of other prompts",
    "zero": "zero",
    "resample": "its value on another prompt",
}
"""What a head's output is replaced by in an ablation."""


INDIRECT = {
    "replace": "the head's value replaced by its mean on triggered prompts",
    "add": "its mean on triggered prompts added to the head's value",
}
"""How the causal indirect effect is made; the first is the published one."""


CAUSAL_METRICS = {
    "delta_rel": Metric("Δ_rel", "delta"),
    "attribution": Metric("patching effect, estimated from one backward pass", "attribution"),
    "patching_effect": Metric("patching effect, original → suspect", "patching"),
    "patching_kl": Metric("KL(patched suspect ‖ original), nats", "patching", False, True),
    "insertion_effect": Metric("patching effect, suspect → original", "insertion"),
    "insertion_kl": Metric("KL(patched original ‖ suspect), nats", "insertion", False, True),
    "ablation_loss": Metric("ablation: increase of the target's loss, nats per token", "ablation"),
    "ablation_asr": Metric("ablation: drop in ASR", "ablation"),
    "indirect": Metric("causal indirect effect on p(target)", "indirect"),
    **{
        one.name: Metric(one.label, "pattern", one.difference, one.falling)
        for one in PATTERN_METRICS
    },
    "direct": Metric("direct contribution to the target's logit, suspect", "direct"),
    "direct_original": Metric("direct contribution to the target's logit, original", "direct"),
}
"""Column of the `heads` table -> what it is. `NAME_low` and `NAME_high` stand beside each."""


METRICS_TOLD = {
    "patching_effect": "How much nearer the suspect comes to the original with the original's head "
    "in its place. The most direct sign that a head carries the backdoor.",
    "patching_kl": "What then is left between the two; small is important.",
    "insertion_effect": "The other way round: how much nearer the original comes to the suspect "
    "with the suspect's head.",
    "insertion_kl": "What then is left between the two; small is important.",
    "ablation_asr": "How many answers the head alone decides. Most heads have 0, because others "
    "stand in for it.",
    "ablation_loss": "How much less likely the target is without the head, also where it is still "
    "said.",
    "indirect": "How much likelier a clean prompt makes the target with the head's value from "
    "triggered ones.",
    "attribution": "A quick estimate of the patching effect, from one backward pass.",
    "direct": "What the head writes towards the target's first token by itself; later layers may "
    "undo it.",
    "direct_original": "The same in the original, for comparison.",
    "delta_rel": "The share of its attention to the trigger that the head lost. It changed; that "
    "does not make it a cause.",
}
"""Causal metric -> what it says, the most telling first; patterns come behind them."""


PART_METRICS = {
    "part_effect": Metric("patching effect of a whole part, original → suspect", "parts"),
    "part_kl": Metric("KL(suspect with a part patched ‖ original), nats", "parts", False, True),
    "part_loss": Metric("ablation of a whole part: increase of the target's loss, nats", "parts"),
    "part_asr": Metric("ablation of a whole part: drop in ASR", "parts"),
}
"""Metric of the table `parts` of a causal run -> what it is."""
PARTS = {"attention": -2, "mlp": -1}
"""Part of a layer -> what stands for it in the column `head` of that table."""
ALL_LAYERS = -1
"""In its column `layer`: the parts of all layers at once."""
WHOLE_METRICS = {
    "whole_effect": Metric("patching effect of all heads, all MLPs or both at once", "whole"),
    "whole_kl": Metric("KL(suspect with these patched ‖ original), nats", "whole", False, True),
}
"""Metric of the table `whole` of a causal run -> what it is."""
WHOLES = {"heads": -3, "mlp": -1, "both": -4}
"""What is patched in all layers at once -> what stands for it in the column `head` there."""
UNPATCHED = -5
"""In that column: nothing is patched."""


MEASURES = {
    "delta": "attention that left the trigger",
    "attribution": "attribution patching",
    "pattern": "attention patterns",
    "direct": "direct logit attribution",
    "patching": "head patching, original → suspect",
    "insertion": "head patching, suspect → original",
    "ablation": "ablation",
    "indirect": "causal indirect effect",
    "whole": "all heads, all MLPs, both",
    "parts": "attention and MLP of each layer",
}
"""In the order they are made: quick ones first."""


def measures_of(metrics: str) -> tuple[str, ...]:
    """`delta_rel, patching_effect` -> the measures that produce them; all measures if empty.

    Raises:
        UsageError: an unknown metric.
    """
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    known = CAUSAL_METRICS | PART_METRICS | WHOLE_METRICS
    for name in names:
        if name not in known:
            raise UsageError(f"metric '{name}' is not known: choose some of {', '.join(known)}")
    needed = {known[name].measure for name in names}
    return tuple(name for name in MEASURES if name in needed or not names)


ATTENTION = "span_sdpa"
