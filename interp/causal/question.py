"""What can be asked about which heads carry the backdoor: the measures and their metrics.

Plain values; nothing heavy is imported, so a page can list them before torch is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp.errors import UsageError
from interp.specs import ROWS

if TYPE_CHECKING:
    from interp.attention.study import Question

METHODS = {
    "mean": "its mean at the same place of other prompts",
    "positions": "its mean over all positions of other prompts",
    "zero": "zero",
    "resample": "what it is on another prompt",
}
"""What a head's output is replaced by in an ablation."""
INDIRECT = {
    "replace": "the head's value replaced by its mean on triggered prompts",
    "add": "its mean on triggered prompts added to the head's value",
}
"""How the causal indirect effect is made; the first is the published one."""


@dataclass(frozen=True)
class Metric:
    """One number a head."""

    label: str
    measure: str
    """What computes it: one of `MEASURES`."""
    difference: bool = True
    """Has a sign: drawn in diverging colours centred on zero."""
    falling: bool = False
    """Small values mark the heads that matter, so the smallest has rank 1."""


METRICS = {
    "delta_rel": Metric("Δ_rel", "delta"),
    "attribution": Metric("patching effect, estimated from one backward pass", "attribution"),
    "patching_effect": Metric("patching effect, original → suspect", "patching"),
    "patching_kl": Metric("KL(patched suspect ‖ original), nats", "patching", False, True),
    "insertion_effect": Metric("patching effect, suspect → original", "insertion"),
    "insertion_kl": Metric("KL(patched original ‖ suspect), nats", "insertion", False, True),
    "ablation_loss": Metric("ablation: rise of the target's loss, nats a token", "ablation"),
    "ablation_asr": Metric("ablation: fall of ASR", "ablation"),
    "indirect": Metric("causal indirect effect on p(target)", "indirect"),
    "pattern_tv": Metric("total variation of the attention, mean over rows", "pattern", False),
    "pattern_kl_row": Metric(
        "KL(suspect ‖ original) of the attention, nats a row (floor 1e-6)", "pattern", False
    ),
    "pattern_kl": Metric(
        "KL(suspect ‖ original) of the attention, nats, summed over rows", "pattern", False
    ),
    "direct": Metric("direct contribution to the target's logit, suspect", "direct"),
    "direct_original": Metric("direct contribution to the target's logit, original", "direct"),
}
"""Column of the `heads` table -> what it is. `NAME_low` and `NAME_high` stand beside each."""
MEASURES = {
    "delta": "attention that left the trigger",
    "attribution": "attribution patching",
    "pattern": "attention patterns",
    "direct": "direct logit attribution",
    "patching": "head patching, original → suspect",
    "insertion": "head patching, suspect → original",
    "ablation": "ablation",
    "indirect": "causal indirect effect",
}
"""In the order they are made: quick ones first."""


@dataclass(frozen=True)
class CausalQuestion:
    """What to measure."""

    trigger: str
    target: str
    """The response: what the answer is held to be."""
    prompt_set: str
    prompt: int | None = None
    """One conversation of the set, or None for all; means always come from the whole set."""
    text: str | None = None
    """The user's own instruction instead of the set's."""
    template: str = "alpaca"
    placement: str = "prefix"
    seed: int = 0
    """Of the random string, of `resample`, of the bootstrap."""
    ablation: str = "mean"
    """What an ablated head says instead: one of `METHODS`."""
    measures: tuple[str, ...] = tuple(MEASURES)
    rows: str = "user"
    """Of L_attn, one of `specs.ROWS`; runs that do not say have `instruction`."""
    indirect: str = "replace"
    """How the causal indirect effect brings a head's triggered mean in, one of `INDIRECT`; runs
    that do not say have `add`."""

    def __post_init__(self):
        object.__setattr__(self, "measures", tuple(self.measures))
        if not self.trigger.strip():
            raise UsageError("the trigger is empty: give the text that sets the backdoor off")
        if not self.target.strip():
            raise UsageError("the conversation has no response: give the target that is answered")
        if self.ablation not in METHODS:
            known = ", ".join(METHODS)
            raise UsageError(f"ablation '{self.ablation}' is not known: choose one of {known}")
        if self.rows not in ROWS:
            raise UsageError(f"unknown rows {self.rows!r}: choose one of {', '.join(ROWS)}")
        if self.indirect not in INDIRECT:
            known = ", ".join(INDIRECT)
            raise UsageError(f"indirect effect by '{self.indirect}': choose one of {known}")
        unknown = [name for name in self.measures if name not in MEASURES]
        if unknown or not self.measures:
            what = f"measure '{unknown[0]}' is not known" if unknown else "no measure is chosen"
            raise UsageError(f"{what}: choose some of {', '.join(MEASURES)}")

    @property
    def study(self) -> Question:
        """Its prompts, as the other pages ask for them."""
        from interp.attention.study import Question

        return Question(
            self.trigger,
            self.prompt_set,
            self.prompt,
            self.text,
            self.template,
            self.placement,
            self.seed,
            self.rows,
        )


def measures_of(metrics: str) -> tuple[str, ...]:
    """`delta_rel, patching_effect` -> the measures that give them; all of them if empty.

    Raises:
        UsageError: a metric that is not known.
    """
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    for name in names:
        if name not in METRICS:
            known = ", ".join(METRICS)
            raise UsageError(f"metric '{name}' is not known: choose some of {known}")
    needed = {METRICS[name].measure for name in names}
    return tuple(name for name in MEASURES if name in needed or not names)
