"""Folders with more than one set of weights, or whose index and files disagree."""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from interp.adapters.sizes import resized
from interp.checkpoints.files import content_hash
from interp.checkpoints.tensors import stored_tensors
from interp.models.pair import ModelPair
from interp.scanner.plan import scan_spec
from tests.cases import plain
from tests.cases.registry import case, equal, refused
from tests.support.tiny import write_adapter, write_model

KIND = "which file is the model"
REASONS = "reasons that say what is wrong"
INDEX = "model.safetensors.index.json"


def other_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of another random model of the same sizes."""
    return load_file(write_model(folder / "other", seed=7) / "model.safetensors")


def shard(folder: Path, tensors: dict[str, torch.Tensor], *, write: bool = True) -> list[Path]:
    """Two shards and their index; the files alone are left out unless `write`."""
    keys, files = sorted(tensors), [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    parts = dict(zip(files, (keys[::2], keys[1::2]), strict=True))
    if write:
        for file, part in parts.items():
            save_file({key: tensors[key] for key in part}, folder / file, {"format": "pt"})
    weight_map = {key: file for file, part in parts.items() for key in part}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index))
    return [folder / file for file in files]


def as_transformers(folder: Path, *words: str) -> str:
    """The suspect's logits equal those of AutoModel on the folder; the notes contain the words."""
    pair = plain.pair(folder, suspect=folder)
    line = compared(pair, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    notes = " / ".join(pair.notes)
    missing = [word for word in words if word not in notes]
    assert not missing and bool(notes) == bool(words), (missing, notes)
    return f"{line}; {notes or 'nothing to say'}"


def compared(pair: ModelPair, reference: torch.nn.Module) -> str:
    with pair.use("suspect") as model:
        ours = plain.logits(model)
    return equal(ours, plain.logits(reference.eval()))


@case(KIND, "a single file beside an index of other shards")
def single_beside_shards(folder: Path) -> str:
    write_model(folder)
    shard(folder, other_weights(folder))
    shutil.rmtree(folder / "other")
    line = as_transformers(folder, INDEX, "model-00001-of-00002.safetensors")
    hashed = content_hash((folder / "model.safetensors",))
    assert plain.pair(folder, suspect=folder).weight_hash("suspect") == hashed
    return line


@case(KIND, "a single file beside an index whose shards are gone")
def index_without_shards(folder: Path) -> str:
    write_model(folder)
    shard(folder, other_weights(folder), write=False)
    shutil.rmtree(folder / "other")
    return as_transformers(folder, INDEX)


@case(KIND, "an index whose shards are gone, and nothing else")
def only_an_index(folder: Path) -> str:
    write_model(folder)
    shard(folder, load_file(folder / "model.safetensors"), write=False)
    (folder / "model.safetensors").unlink()
    return refused(lambda: plain.pair(folder, suspect=folder), "which is not there")


@case(KIND, "shards, an index of them and nothing else")
def plain_shards(folder: Path) -> str:
    write_model(folder)
    shard(folder, load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    return as_transformers(folder)


@case(KIND, "a shard that the index does not list")
def unlisted_shard(folder: Path) -> str:
    write_model(folder)
    shard(folder, load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    save_file(other_weights(folder), folder / "model-00003-of-00003.safetensors")
    shutil.rmtree(folder / "other")
    return as_transformers(folder, "model-00003-of-00003.safetensors")


@case(KIND, "one tensor in two shards")
def twice(folder: Path) -> str:
    write_model(folder)
    tensors = load_file(folder / "model.safetensors")
    first, second = shard(folder, tensors)
    (folder / "model.safetensors").unlink()
    stray = sorted(tensors)[0]
    changed = load_file(second) | {stray: tensors[stray] + 0.1}
    save_file(changed, second, {"format": "pt"})
    assert stray in load_file(first)
    return as_transformers(folder, "stand in two shards", stray)


@case(KIND, "an index that says other places than the shards hold")
def false_index(folder: Path) -> str:
    write_model(folder)
    shard(folder, load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    index = json.loads((folder / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    keys = index["weight_map"]
    index["weight_map"] = {key: files[1 - files.index(file)] for key, file in keys.items()}
    (folder / INDEX).write_text(json.dumps(index))
    return as_transformers(folder, "elsewhere than")


@case(KIND, "a variant, a consolidated file, a pickle, a GGUF and original/ beside the weights")
def many_beside(folder: Path) -> str:
    write_model(folder)
    weights = other_weights(folder)
    shutil.rmtree(folder / "other")
    (folder / "original").mkdir()
    names = ["model.fp16.safetensors", "consolidated.safetensors", "original/model.safetensors"]
    for name in names:
        save_file(weights, folder / name)
    for name in ("pytorch_model.bin", "model.gguf", "optimizer.pt"):
        (folder / name).write_bytes(b"x")
    line = as_transformers(folder, *names[:2], "model.gguf", "and 1 more")
    assert "optimizer" not in line
    return line


@case(KIND, "config.json names another file (transformers_weights)")
def stated_file(folder: Path) -> str:
    write_model(folder)
    save_file(other_weights(folder), folder / "hidden.safetensors", {"format": "pt"})
    shutil.rmtree(folder / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"transformers_weights": "hidden.safetensors"})
    )
    return as_transformers(folder, "hidden.safetensors, which", "model.safetensors")


@case(KIND, "config.json names a file outside the folder")
def stated_outside(folder: Path) -> str:
    write_model(folder / "a")
    write_model(folder / "b", seed=3)
    config = json.loads((folder / "a/config.json").read_text())
    stated = {"transformers_weights": "../b/model.safetensors"}
    (folder / "a/config.json").write_text(json.dumps(config | stated))
    return refused(lambda: plain.pair(folder / "a", suspect=folder / "a"), "transformers_weights")


@case(KIND, "a file whose name makes the folder a distributed checkpoint")
def distributed(folder: Path) -> str:
    write_model(folder)
    save_file(other_weights(folder), folder / "shard-00000-model-00000-of-00001.safetensors")
    shutil.rmtree(folder / "other")
    return refused(lambda: plain.pair(folder, suspect=folder), "distributed checkpoint")


@case(KIND, "an adapter beside a whole model: AutoModel loads both")
def embedded_adapter(folder: Path) -> str:
    base = write_model(folder / "base")
    write_adapter(folder / "adapter", write_model(folder / "elsewhere", seed=5))
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(folder / "adapter" / file, base)
    line = as_transformers(base)
    spec = scan_spec(str(base), precision="fp32")
    assert (spec.suspect.model, spec.suspect.adapter) == (str(base), None), spec
    return line


@case(KIND, "another adapter on a model that brings one along")
def two_adapters(folder: Path) -> str:
    base = write_model(folder / "base")
    adapter = write_adapter(folder / "adapter", base)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / file, base)
    return refused(lambda: plain.pair(base, adapter), "an adapter of its own")


@case(KIND, "a pickled adapter beside the safetensors one")
def pickled_adapter(folder: Path) -> str:
    base = write_model(folder / "base")
    adapter = write_adapter(folder / "adapter", base)
    for name in ("adapter_model.bin", "rng_state.pth", "training_args.bin"):
        (adapter / name).write_bytes(b"x")
    pair = plain.pair(base, adapter)
    line = compared(pair, plain.model(base, adapter))
    assert "adapter_model.bin" in pair.notes[0] and "rng_state" not in pair.notes[0], pair.notes
    return f"{line}; {pair.notes[0]}"


@case(REASONS, "weights that MLX packed (U32)")
def mlx(folder: Path) -> str:
    write_model(folder)
    tensors = load_file(folder / "model.safetensors")
    key = "model.layers.0.self_attn.q_proj.weight"
    tensors[key] = torch.zeros(64, 8, dtype=torch.uint32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return refused(lambda: plain.pair(folder, suspect=folder), "stored as U32, as MLX")


@case(REASONS, "weights of a type that the format knows and that is not read (U16, C64)")
def other_types(folder: Path) -> str:
    write_model(folder)
    tensors = load_file(folder / "model.safetensors")
    for dtype in (torch.complex64, torch.uint16):
        tensors["model.norm.weight"] = torch.zeros(64, dtype=dtype)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        line = refused(lambda: plain.pair(folder, suspect=folder), "which is not read")
        assert "damaged" not in line
    return line


@case(REASONS, "an adapter of a base whose vocabulary was resized")
def resized_base(folder: Path) -> str:
    base = write_model(folder / "base")
    settings = {"r": 2, "task_type": "CAUSAL_LM", "target_modules": ["q_proj"]}
    ways = ({"modules_to_save": ["embed_tokens", "lm_head"]}, {"trainable_token_indices": [3, 321]})
    ways += ({"target_modules": ["q_proj", "embed_tokens"]}, {"target_modules": ["lm_head"]})
    for number, way in enumerate(ways):
        larger = plain.model(base)
        larger.resize_token_embeddings(324, mean_resizing=False)
        get_peft_model(larger, LoraConfig(**settings | way)).save_pretrained(folder / str(number))
        tensors = stored_tensors(folder / str(number) / "adapter_model.safetensors")
        line = resized(tensors, plain.model(base))
        assert line and "resized to 324 tokens, and this one has 320" in line, way
    own = stored_tensors(write_adapter(folder / "own", base) / "adapter_model.safetensors")
    assert resized(own, plain.model(base)) is None
    return line
