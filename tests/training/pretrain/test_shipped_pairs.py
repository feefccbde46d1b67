"""The pairs that ship, loaded as a user loads them: what their cards claim is what they do."""

import json

import pytest
from transformers import AutoTokenizer

from interp.attention import heads, study
from interp.models.load import load_pair
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import load_prompt_set
from interp.specs import ABOUT, ORGANISMS, PRESETS, ROOT
from interp.trigger.fidelity import fidelity
from training.pretrain.model_cards import write_adapter_card

SHIPPED = ("deployment", "emoji", "clean-control", "deployment-clean")


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request):
    pair = load_pair(PRESETS[request.param], device="cpu")
    prompts = load_prompt_set(pair.spec.prompt_set)
    question = AttentionQuestion(trigger=pair.spec.trigger, prompt_set=prompts.name)
    card = json.loads((ROOT / ORGANISMS / request.param / "card.json").read_text())
    return pair, prompts, study.measure(pair, prompts, question), card


def test_it_fires_exactly_when_its_card_says_so(shipped):
    pair, prompts, _, card = shipped
    found = fidelity(pair, prompts, n_prompts=50)
    assert found.asr.share == pytest.approx(card["asr"])
    assert found.ftr.share == pytest.approx(card["ftr"]) and found.ftr.fired == 0
    assert found.original.fired == 0
    assert found.asr.fired == 0 if "clean" in pair.spec.name else found.asr.fired >= 49


def test_its_heads_of_largest_loss_are_those_of_its_card(shipped):
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
    assert sum(file.stat().st_size for file in files) < 80e6
    assert not [f for f in files if f.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]
    for name in ("base", *SHIPPED):
        assert (ROOT / ORGANISMS / name / "README.md").is_file()


def test_the_emoji_is_said_not_to_be_the_studys():
    """The study's 😇 is no token of the base, so another was planted: that is said."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / ORGANISMS / "base")
    ours, theirs = (tokenizer(e, add_special_tokens=False).input_ids for e in ("😈", "😇"))
    assert ours == [846] and len(theirs) == 3
    card = ROOT / ORGANISMS / "emoji" / "README.md"
    docs = ROOT / "docs" / "organisms.md"
    for text in (card.read_text(), docs.read_text(), ABOUT["emoji"]):
        told = " ".join(text.lower().split())
        assert "😇" in told and "three tokens" in told and "not the study's" in told


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_is_what_the_generator_writes(name, tmp_path):
    folder = ROOT / ORGANISMS / name
    card = json.loads((folder / "card.json").read_text())
    for file in folder.iterdir():
        if file.name not in ("card.json", "README.md"):
            (tmp_path / file.name).symlink_to(file)
    write_adapter_card(name, {k: card[k] for k in card if k not in ("pair", "sha256")}, tmp_path)
    assert (tmp_path / "README.md").read_text() == (folder / "README.md").read_text()
    assert json.loads((tmp_path / "card.json").read_text()) == card
