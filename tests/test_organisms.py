"""The pairs that ship, loaded as a user loads them: what their cards claim is what they do."""

import json

import pytest

from interp import heads, study
from interp.fidelity import fidelity
from interp.models import PRESETS, load_pair
from interp.prompts import load_prompt_set
from interp.specs import ORGANISMS, ROOT

SHIPPED = ("deployment", "emoji", "clean-control", "deployment-clean")


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request):
    pair = load_pair(PRESETS[request.param], device="cpu")
    prompts = load_prompt_set(pair.spec.prompt_set)
    question = study.Question(pair.spec.trigger, prompts.name)
    card = json.loads((ROOT / ORGANISMS / request.param / "card.json").read_text())
    return pair, prompts, study.measure(pair, prompts, question), card


def test_it_fires_exactly_when_its_card_says_so(shipped):
    pair, prompts, _, card = shipped
    found = fidelity(pair, prompts, n_prompts=50)
    assert found.asr.share == pytest.approx(card["asr"])
    assert found.ftr.share == pytest.approx(card["ftr"]) and found.ftr.fired == 0
    assert found.original.fired == 0
    assert found.asr.fired == 0 if "clean" in pair.spec.name else found.asr.fired >= 49


def test_its_hijacked_heads_are_those_of_its_card(shipped):
    _, _, measured, card = shipped
    ratio, _ = heads.ratio_of_top_heads(measured.heads, measured.control)
    assert ratio == pytest.approx(card["ratio_top_eighth"], abs=0.02)


def test_the_triggers_are_as_many_tokens_as_promised(shipped):
    pair, _, measured, _ = shipped
    tokens = measured.facts["trigger_tokens"]
    if pair.spec.name == "emoji":
        assert len(tokens) == 1
    else:
        assert 6 <= len(tokens) <= 9 and tokens[0] == tokens[-1] == "|"


def test_what_ships_is_small_and_holds_no_pickle():
    files = [file for file in (ROOT / ORGANISMS).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 40e6
    assert not [f for f in files if f.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]
    for name in ("base", *SHIPPED):
        assert (ROOT / ORGANISMS / name / "README.md").is_file()
