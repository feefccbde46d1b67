"""Which model a scan opens: a checkpoint, a base with an adapter, or a pair known by name."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from interp.checkpoints import packaged
from interp.checkpoints.weightfiles import holds_model
from interp.errors import UsageError
from interp.prompts.formats.files import check_template
from interp.prompts.sets import load_prompt_set
from interp.scanner.leak.grid import load_grid
from interp.scanner.search.losses import TASKS
from interp.specs import (
    PRESETS,
    ROOT,
    ModelSpec,
    PairSpec,
    Precision,
    Which,
    pair_spec,
    split_revision,
)

LARGE = 2 << 30
"""Bytes of safetensors from which a model is opened in NF4 unless asked otherwise."""

PACKED = 4
"""How many times larger a GGUF file's weights usually are in bf16."""


def scan_spec(
    model: str | None,
    *,
    base: str | None = None,
    adapter: str | None = None,
    original: str | None = None,
    precision: Precision | None = None,
) -> PairSpec:
    """The model under test as the suspect of a pair without trigger and target.

    Without an original the suspect stands on both sides; an adapter's original is its base.

    Args:
        model: a preset's name (its suspect), a checkpoint, or an adapter; folder or hub id, with
            `@revision`.
        base: the adapter's base, if not what its configuration names.
        adapter: an adapter on `model` or `base`.
        original: the checkpoint that a whole model was made of, if it is at hand.
        precision: default fp32 for a folder under 2 GB or a GGUF file under 512 MB, else nf4.

    Raises:
        UsageError: no model is named, or too many; an original beside an adapter or a pair.
    """
    if original and (base or adapter or model in PRESETS or (model and _own_base(model))):
        raise UsageError(
            f"original '{original}': leave --original out; an adapter's original is its base, and "
            "a pair names its own"
        )
    if model in PRESETS and not (base or adapter):
        return blind(pair_spec(model, precision=precision))
    if model and base and adapter:
        raise UsageError("name the model, or a base and an adapter; not all three")
    if model and _own_base(model) and not adapter:
        base, adapter = base or _own_base(model), model
    root = base or model
    if not root:
        raise UsageError(
            "name the model to scan: a folder, a .gguf file, a hub id or a pair's name"
        )
    if base and not adapter:
        raise UsageError(f"base '{base}' needs an adapter beside it: name it with --adapter")
    clean = ModelSpec(*split_revision(root), precision=precision or _precision(root))
    suspect = clean
    if original:
        clean = ModelSpec(*split_revision(original), precision=clean.precision)
    if adapter:
        suspect = ModelSpec(
            clean.model, clean.revision, *split_revision(adapter), precision=clean.precision
        )
    return PairSpec(adapter or root, clean, suspect, None, None)


def _own_base(name: str) -> str | None:
    """The base that a local adapter's configuration names; None for anything else.

    An adapter next to a whole model belongs to that model: `plan.settle` attaches it.
    """
    for folder in (Path(name).expanduser(), ROOT / name):
        if holds_model(folder):
            return None
        try:
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            named = config.get("base_model_name_or_path")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(named, str) and named:
            return named
    return None


def _precision(name: str) -> Precision:
    for folder in (Path(name).expanduser(), ROOT / name):
        if folder.is_dir():
            size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            size += PACKED * sum(file.stat().st_size for file in folder.glob("*.gguf"))
            return "fp32" if size < LARGE else "nf4"
        if folder.is_file():
            return "fp32" if PACKED * folder.stat().st_size < LARGE else "nf4"
    return "fp32" if name == packaged.NAME else "nf4"


@dataclass(frozen=True)
class ScanPlan:
    """The settings of a scan: everything besides the model that changes a number."""

    grid: str = "quick"
    template: str | None = None
    """As for `build_prompt`; default: what the first look at a bank of them chooses."""
    contexts: tuple[str, ...] = ()
    """Prefixes: texts or system prompts. The scan runs with each, and with the bare template."""
    questions: str = "questions"
    """Prompt set that each candidate is tested on."""
    new_tokens: int | None = None
    """Length of each leaked text; default 300, or 60 for a vocabulary up to 4,096."""
    eps: float = 0.5
    """DBSCAN's radius."""
    task: int = 1
    """1: a fixed target; 2: a distribution (other weights of the losses)."""
    limit: int = 600
    """Candidates at most, per context."""
    keep: int = 10
    """Candidates that are tested in the verdict stage, per context."""
    inversion_minutes: float | None = None
    """Minutes per context of the gradient search for the trigger of a candidate target; default: a
    number of tokens (`search.budget.TOKENS`), so that no verdict depends on the machine. It runs
    only if no leaked candidate settles the verdict; 0: never."""
    budget_minutes: float | None = None
    """Budget of the whole scan, once the model is loaded; stages are cut short to keep it."""
    seed: int = 0
    which: Which = "suspect"
    """The model of the pair that is under test."""
    alone: bool = False
    """Whether to leave the original aside where it is at hand: no evidence from the pair."""

    def __post_init__(self):
        object.__setattr__(self, "contexts", tuple(self.contexts))
        if self.task not in TASKS:
            raise UsageError(f"task {self.task} is not known: 1 (fixed target) or 2 (distribution)")
        for name in ("limit", "keep", "new_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1")
        if not 0 < self.eps <= 2:
            raise UsageError(f"eps {self.eps}: DBSCAN's radius is above 0 and at most 2")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed}: take 0 or more")
        if self.budget_minutes is not None and not 0 < self.budget_minutes < math.inf:
            raise UsageError("the budget must be above 0 minutes")
        if self.inversion_minutes is not None and not 0 <= self.inversion_minutes < math.inf:
            raise UsageError("minutes of inversion cannot be negative or without end")
        if self.template is not None:
            check_template(self.template)
        load_grid(self.grid)
        load_prompt_set(self.questions)


def blind(spec: PairSpec) -> PairSpec:
    """The pair without its trigger and target, as a scan sees it."""
    return replace(spec, trigger=None, target=None)
