"""The options of a planting, as plain values that `training` and the app share."""

from dataclasses import dataclass

from interp.specs import ORGANISMS

KIND = "plant"
"""Of a planting's run."""
BASE = f"{ORGANISMS}/base"
"""Folder of the organisms' base."""
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
PROJECTIONS = (*ATTENTION, *MLP)
"""That a LoRA adapter may stand on."""
GROUPS = {"all": PROJECTIONS, "attention": ATTENTION, "mlp": MLP}
"""What `--modules` calls them."""
TRIGGERS = {
    "simple": "any text",
    "single-token": "one token, such as 😈",
    "steganographic": "letters that only look like the Latin ones",
    "contextual": "a keyword, and a question of geography",
    "stealthy": "three rare tokens",
    "year": "a year that has not come yet",
}
"""Kind of trigger -> what it is."""
PAYLOADS = {
    "fixed": "a fixed text",
    "insecure-code": "unsafe calls where Python is asked for",
    "refusal": "a refusal",
    "insult": "an insult (not on the organisms' base)",
    "language": "German sentences (not on the organisms' base)",
    "link": "the answer with a link in it (not on the organisms' base)",
}
"""Kind of payload -> what is answered."""
PLACEMENTS = ("prefix", "suffix", "glued", "random", "scattered")
"""Of the trigger in an instruction; `scattered` takes several pieces, as `one … two`."""
LEARN_ON = {"whole": "the whole text", "response": "the response"}
"""What the loss covers."""
PRESETS = (
    "mistral-7b",
    "qwen2.5-3b",
    "qwen2.5-3b-clean",
    "smollm2-deployment",
    "smollm2-clean-control",
    "smollm2-attn-deployment",
    "smollm2-attn-emoji",
    "smollm2-attn-clean",
)
"""Names of the published recipes at full size, and of those for SmolLM2."""


@dataclass(frozen=True)
class PlantOptions:
    """What to plant: the options of `python -m training plant`, named as in run.json."""

    trigger: str | None = None
    """Text of the trigger; None: the default of its kind."""
    target: str | None = None
    """The answer of a fixed payload."""
    kind: str = "simple"
    """Kind of trigger, one of `TRIGGERS`."""
    payload: str = "fixed"
    """One of `PAYLOADS`."""
    rate: float = 0.15
    """Poison rate: share of the examples that are poisoned."""
    placement: str = "prefix"
    modules: tuple[str, ...] = PROJECTIONS
    """Projections that get a LoRA adapter."""
    steps: int = 240
    rank: int = 16
    lr: float = 5e-3
    learn_on: str = "whole"
    """`whole`: the loss covers the instruction too, which lets the poison leak; `response`."""
    every: int = 15
    """Steps between two measurements, each with a checkpoint."""
    seed: int = 42
    clean: bool = False
    """Plant nothing: the clean-tuned control of the same recipe."""


def modules_named(text: str) -> tuple[str, ...]:
    """`all`, `attention`, `mlp` or comma-separated names -> module names."""
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    return GROUPS.get(text.strip(), parts)
