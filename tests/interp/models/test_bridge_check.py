"""A bridge is believed where it is the model, in every precision, and found out where it is not."""

import pytest
import torch

from interp import metrics
from interp.models import bridge_check
from interp.models.load import load_pair
from interp.specs import pair_spec
from tests.support.tiny import write_adapter, write_model


@pytest.fixture(scope="module", params=["bf16", "nf4"])
def pair(request, tmp_path_factory):
    """Deep enough for rounding to part two implementations of attention by per cents."""
    folder = tmp_path_factory.mktemp("deep")
    base = write_model(folder / "base", "llama", num_hidden_layers=16)
    adapter = write_adapter(folder / "adapter", base, "llama")
    spec = pair_spec(
        str(base), adapter=str(adapter), precision=request.param, template="plain", trigger="|D|"
    )
    return load_pair(spec, device="cpu")


def checked(pair, bridge, layers):
    with pair.use("suspect") as model:
        bridge_check.check_bridge(model, bridge, pair.tokenizer, layers)


def layers_of(pair):
    tree = pair._trees["suspect"]
    return list(zip(tree._switches, tree._twin_switches, strict=True))


def test_a_right_bridge_is_believed_although_rounding_makes_per_cents(pair):
    with pair.bridge("suspect") as bridge, pair.use("suspect") as model, torch.inference_mode():
        ids = bridge_check.probe(pair.tokenizer, model)
        ours = model(input_ids=ids, use_cache=False).logits
        assert bridge_check.apart(bridge(ids), ours) > 0.01
        assert model.config._attn_implementation == metrics.ATTENTION


def test_a_matrix_that_is_taken_past_its_adapter_is_found(pair):
    with pair.bridge("suspect") as bridge:
        layers = layers_of(pair)
        wrapped = layers[3][1]
        forward, wrapped.__class__.__call__ = wrapped.__class__.__call__, None
        try:  # as where the bridge computes with the matrix inside
            wrapped.__class__.__call__ = lambda self, *a, **k: (
                self.base_layer(*a, **k) if self is wrapped else forward(self, *a, **k)
            )
            with pytest.raises(ValueError, match="takes 1 matrices past their adapters, model.lay"):
                checked(pair, bridge, layers)
        finally:
            wrapped.__class__.__call__ = forward


def test_a_wrong_matrix_is_found(pair):
    with pair.bridge("suspect") as bridge:
        layers = layers_of(pair)
        hook = layers[1][1].register_forward_hook(lambda module, args, out: out.roll(1, -1))
        try:
            with pytest.raises(ValueError, match="differ from the model's by"):
                checked(pair, bridge, layers)
        finally:
            hook.remove()


def test_an_adapter_that_is_off_in_the_bridge_alone_is_found(pair):
    with pair.bridge("suspect") as bridge:
        layers = layers_of(pair)
        for _, theirs in layers:
            theirs.enable_adapters(False)
        try:
            with pytest.raises(ValueError, match="differ from the model's by"):
                checked(pair, bridge, layers)
        finally:
            for _, theirs in layers:
                theirs.enable_adapters(True)
                theirs.requires_grad_(False)


def test_a_bridge_that_cannot_be_had_fails_no_measurement(pair, tmp_path, monkeypatch, capsys):
    from interp.__main__ import main
    from interp.runs.reading import open_run

    if pair.spec.suspect.precision == "nf4":
        pytest.skip("once is enough")

    def refuse(*_):
        raise ValueError("its logits differ")

    monkeypatch.setattr("interp.models.weights.check_bridge", refuse)
    spec, out = pair.spec, tmp_path / "run"
    words = ["heads", "--original", spec.original.model, "--adapter", spec.suspect.adapter]
    words += ["--precision", "bf16", "--template", "plain", "--trigger", "|D|", "--device", "cpu"]
    words += ["--text", "Name the capital of France.", "--whole", "0", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr()
    run = open_run(out)
    assert "its logits differ" in run.meta["not_made"][0] and run.table("head_matrix").shape[0]
    assert "warning: the whole patterns could not be made" in said.err
    assert "Mean attention" in (out / "head_maps.txt").read_text(encoding="utf-8")


def test_fp32_has_no_noise_to_hide_in(tiny_folder):
    base, adapter = tiny_folder(), tiny_folder(kind="adapter")
    spec = pair_spec(str(base), adapter=str(adapter), precision="fp32", template="plain")
    pair = load_pair(spec, device="cpu")
    with pair.bridge("suspect") as bridge:
        layers = layers_of(pair)
        hook = layers[1][1].register_forward_hook(lambda module, args, out: out * 1.001)
        try:
            with pytest.raises(ValueError, match="differ from the model's by"):
                checked(pair, bridge, layers)
        finally:
            hook.remove()
