"""NF4 on the CPU: against transformers' own loading, switched adapters, shared by the bridge."""

import copy
import subprocess
import sys

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from interp.models.load import load_pair
from interp.models.weights import share_parameters
from interp.specs import pair_spec
from tests.interp.models.test_pair import IDS, logits
from tests.support import tiny
from tests.support.refusals import edit, refused

QUANTIZED = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16,
)


@pytest.fixture(scope="module", params=["mistral", "gemma3", "phi3"])
def nf4(request, tiny_folder):
    """An architecture with plain, with normed and with fused projections."""
    base, adapter = tiny_folder(request.param), tiny_folder(request.param, "adapter")
    pair = load_pair(pair_spec(str(base), adapter=str(adapter)), device="cpu")
    assert pair.spec.original.precision == "nf4"
    return base, adapter, pair


def reference(base, adapter=None):
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16, quantization_config=QUANTIZED, attn_implementation="eager"
    )
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


def test_each_side_is_plain_hugging_face(nf4):
    base, adapter, pair = nf4
    for which, lora in (("original", None), ("suspect", adapter), ("original", None)):
        expected = logits(reference(base, lora), output_attentions=True)
        scale = expected.logits.abs().max()
        with pair.use(which) as model:
            assert model.config._attn_implementation == "span_sdpa"
            assert (logits(model).logits - expected.logits).abs().max() < 0.03 * scale
        with pair.bridge(which) as bridge, torch.inference_mode():
            out, cache = bridge.run_with_cache(IDS)
        # transformer-lens cuts Phi-3's matrices up; everything else is the same to the bit.
        if "phi3" in str(base):
            assert (out - expected.logits).abs().max() < 0.03 * scale
        else:
            assert torch.equal(out, expected.logits)
        for layer, pattern in enumerate(expected.attentions):
            ours = cache[f"blocks.{layer}.attn.hook_pattern"].to(pattern.dtype)
            torch.testing.assert_close(ours, pattern, rtol=0, atol=2e-2)


def test_the_bridge_shares_quantised_weights_and_their_scales(nf4):
    base, _, pair = nf4
    with pair.use("original") as model:
        logits(model)  # the first pass packs the weights for the CPU's kernel
    before = pair.memory()["parameters"]
    with pair.bridge("original") as bridge:
        with torch.inference_mode():
            bridge(IDS)
        with pair.use("original") as model:
            ours = {p.data_ptr(): p for p in model.parameters() if hasattr(p, "quant_state")}
            theirs = {p.data_ptr(): p for p in bridge.parameters() if hasattr(p, "quant_state")}
    assert ours and theirs.keys() <= ours.keys()
    for pointer, parameter in theirs.items():
        assert parameter.quant_state is ours[pointer].quant_state
    assert pair.memory()["parameters"] - before < 0.03 * before


def test_a_plain_deep_copy_would_not_share(nf4):
    """What the twin avoids: shows that the test above can fail."""
    _, _, pair = nf4
    with pair.use("original") as model:
        own = {p.data_ptr() for p in model.parameters()}
        assert {p.data_ptr() for p in share_parameters(model).parameters()} == own
        assert not own & {p.data_ptr() for p in copy.deepcopy(model).parameters()}


def test_sizes_that_the_packed_kernel_cannot_take(tmp_path):
    base = tiny.write_model(tmp_path / "odd", intermediate_size=96, hidden_size=80)
    pair = load_pair(pair_spec(str(base), str(base)), device="cpu")
    with pair.use("original") as model, torch.inference_mode():
        for linear in (model.model.layers[0].mlp.down_proj, model.model.layers[0].self_attn.q_proj):
            x = torch.randn(5, linear.in_features, dtype=torch.bfloat16)
            weight = dequantize_4bit(linear.weight.data, linear.weight.quant_state)
            torch.testing.assert_close(linear(x), x @ weight.T, rtol=2e-2, atol=2e-2)


def test_embeddings_and_head_stay_in_bf16(nf4):
    _, _, pair = nf4
    with pair.use("original") as model:
        assert model.get_input_embeddings().weight.dtype == torch.bfloat16
        assert model.get_output_embeddings().weight.dtype == torch.bfloat16
        quantised = [p for p in model.parameters() if hasattr(p, "quant_state")]
        assert len(quantised) >= 4 * pair.n_layers
        assert all(p.quant_type == "nf4" for p in quantised)


def test_a_quantised_checkpoint_opens_as_it_is(tiny_folder, tmp_path):
    base = tiny_folder()
    model = reference(base)
    model.save_pretrained(tmp_path / "stored")
    tiny.write_tokenizer(tmp_path / "stored")
    pair = load_pair(pair_spec(str(tmp_path / "stored"), str(base)), device="cpu")
    with pair.use("original") as stored:
        from_file = logits(stored).logits
    with pair.use("suspect") as fresh:
        assert torch.equal(logits(fresh).logits, from_file)


def test_loading_says_nothing_on_the_screen(tiny_folder):
    base, adapter = tiny_folder(), tiny_folder(kind="adapter")
    program = (
        "from interp.models.load import load_pair\n"
        "from interp.specs import pair_spec\n"
        f"pair = load_pair(pair_spec({str(base)!r}, adapter={str(adapter)!r}), device='cpu')\n"
        "with pair.use('suspect') as model: model.generate(max_new_tokens=2)\n"
        "with pair.bridge('suspect') as bridge: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_base_that_is_stored_in_nf4(tiny_folder, tmp_path):
    base, adapter = tiny_folder(), tiny_folder(kind="adapter")
    whole = reference(base)
    stored = tmp_path / "stored"
    whole.save_pretrained(stored)
    tiny.write_tokenizer(stored)
    pair = load_pair(pair_spec(str(stored), adapter=str(adapter)), device="cpu")
    assert pair.notes == ()
    for which, lora in (("original", None), ("suspect", adapter)):
        with pair.use(which) as model:
            expected = logits(reference(base, lora)).logits
            assert (logits(model).logits - expected).abs().max() < 0.03 * expected.abs().max()
    refused(stored, adapter=adapter, match="stored in NF4 and cannot be opened in fp32")
    edit(stored, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    refused(stored, adapter=adapter, precision="nf4", match="stored quantised .bitsandbytes.")
