"""A folded adapter gives the logits of the live one; what cannot be folded is lent as it is."""

import threading

import pytest
import torch

from interp.checkpoints.loading import BUILDING
from interp.hooks.prefix import last_position_only
from interp.models import folded as models_folded
from interp.models.load import load_pair
from interp.models.weights import Tree
from interp.specs import pair_spec
from tests.interp.models.test_pair import IDS
from tests.support import tiny


def opened(tiny_folder, arch, precision="fp32", adapter=None):
    adapter = adapter or tiny_folder(arch, "adapter")
    spec = pair_spec(str(tiny_folder(arch)), adapter=str(adapter), precision=precision)
    return load_pair(spec, device="cpu")


def logits(model, **options):
    with torch.inference_mode():
        return model(input_ids=IDS, use_cache=False, **options).logits


@pytest.mark.parametrize("arch", sorted(tiny.CONFIGS))
def test_a_folded_adapter_gives_the_same_logits(tiny_folder, arch):
    pair = opened(tiny_folder, arch)
    with pair.use("suspect") as model:
        live = logits(model)
    with pair.use("original") as model:
        base = logits(model)
    with pair.use_folded("suspect") as model:
        folded = logits(model)
        assert not any("lora" in name for name, _ in model.named_modules())
        with last_position_only(model):
            last = logits(model, logits_to_keep=1)[:, -1]
        again = logits(model)
    torch.testing.assert_close(folded, live, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, folded[:, -1], rtol=1e-4, atol=1e-5)
    assert torch.equal(again, folded)  # the hook is gone
    assert (live - base).abs().max() > 1e-2  # so that it was worth telling them apart
    for which, expected in (("original", base), ("suspect", live)):
        with pair.use(which) as model:
            assert torch.equal(logits(model), expected)
    with pair.use("original") as model, pair.use_folded("original") as same:
        assert same is model


def test_a_copy_made_in_inference_can_still_be_differentiated_through(tiny_folder):
    pair = opened(tiny_folder, "mistral")
    with torch.inference_mode(), pair.use_folded("suspect"):
        pass
    with pair.use_folded("suspect") as model:
        embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
        model(inputs_embeds=embedded, use_cache=False).logits.square().sum().backward()
    assert embedded.grad.abs().max() > 0


def test_without_room_for_a_copy_the_live_adapter_is_lent(tiny_folder, monkeypatch):
    pair = opened(tiny_folder, "mistral")
    monkeypatch.setattr(models_folded, "free_bytes", lambda device: 1000)
    with pair.use_folded("suspect") as model, pair.use("suspect") as live:
        assert model is live


def test_the_copy_is_made_once_and_shares_what_is_not_adapted(tiny_folder):
    pair = opened(tiny_folder, "mistral")
    before = pair.memory()["parameters"]
    with pair.use_folded("suspect") as model, pair.use_folded("suspect") as again:
        assert model is again
        embedding = model.get_input_embeddings().weight
    with pair.use("suspect") as live:
        assert live.get_input_embeddings().weight is embedding
    assert before < pair.memory()["parameters"] < 2 * before


@pytest.mark.parametrize("arch", ["mistral", "phi3"])
def test_what_is_quantised_stays_live(tiny_folder, arch):
    pair = opened(tiny_folder, arch, precision="nf4")
    with pair.use_folded("suspect") as model, pair.use("suspect") as live:
        assert model is live


def test_an_adapter_that_is_more_than_lora_stays_live(tiny_folder, tmp_path):
    base = tiny_folder("mistral")
    adapter = tiny.write_adapter(tmp_path / "dora", base, use_dora=True)
    pair = opened(tiny_folder, "mistral", adapter=adapter)
    with pair.use_folded("suspect") as model, pair.use("suspect") as live:
        assert model is live


def test_an_adapter_in_training_is_never_copied(tiny_folder):
    pair = opened(tiny_folder, "mistral")
    tree = pair._trees["suspect"]
    learning = Tree(tree.model, tree._peft, "x", learning=True)
    assert learning.folded("suspect") is None and tree.folded("suspect") is not None


def test_a_copy_is_not_made_while_a_model_is_being_loaded(tiny_folder):
    """Loading changes for all threads how modules are made."""
    pair = opened(tiny_folder, "mistral")

    def fold():
        with pair.use_folded("suspect"):
            pass

    with BUILDING:
        thread = threading.Thread(target=fold)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and not pair._trees["suspect"]._folded
    thread.join(20)
    assert not thread.is_alive() and pair._trees["suspect"].folded("suspect") is not None
