"""Which model a scan opens: a checkpoint, a base with an adapter, or a pair known by name."""

import json
from pathlib import Path

from interp.checkpoints.weightfiles import holds_model
from interp.errors import UsageError
from interp.scanner.pipeline import blind
from interp.specs import PRESETS, ROOT, ModelSpec, PairSpec, Precision, pair_spec, split_revision

LARGE = 2 << 30
"""Bytes of safetensors from which a model is opened in NF4 unless asked otherwise."""


def scan_spec(
    model: str | None,
    *,
    base: str | None = None,
    adapter: str | None = None,
    precision: Precision | None = None,
) -> PairSpec:
    """The model under test as the suspect of a pair that knows nothing of a backdoor.

    Args:
        model: a preset's name (its suspect), a checkpoint, or an adapter; folder or hub id, with
            `@revision`.
        base: the adapter's base, if not what its configuration names.
        adapter: an adapter on `model` or `base`.
        precision: default fp32 for a folder under 2 GB, else nf4.

    Raises:
        UsageError: nothing named, or too much.
    """
    if model in PRESETS and not (base or adapter):
        return blind(pair_spec(model, precision=precision))
    if model and base and adapter:
        raise UsageError("name the model, or a base and an adapter; not all three")
    if model and _own_base(model) and not adapter:
        base, adapter = base or _own_base(model), model
    root = base or model
    if not root:
        raise UsageError("name the model to scan: a folder, a hub id or a pair's name")
    if base and not adapter:
        raise UsageError(f"base '{base}' needs an adapter beside it: name it with --adapter")
    clean = ModelSpec(*split_revision(root), precision=precision or _precision(root))
    suspect = clean
    if adapter:
        suspect = ModelSpec(
            clean.model, clean.revision, *split_revision(adapter), precision=clean.precision
        )
    return PairSpec(adapter or root, clean, suspect, None, None)


def _own_base(name: str) -> str | None:
    """The base that a local adapter's configuration names; None for anything else.

    An adapter beside a whole model stands on that one: `plan.settle` puts it there.
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
            return "fp32" if size < LARGE else "nf4"
    return "nf4"
