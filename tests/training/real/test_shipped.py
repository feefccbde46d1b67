"""The adapters on the real model that ship: on a few prompts they do what their cards claim."""

import json

import pytest

from interp.checkpoints import packaged
from interp.models.load import load_pair
from interp.prompts.question import Question
from interp.prompts.sets import load_prompt_set
from interp.specs import PRESETS, ROOT
from training.planting import presets
from training.real import card, readme

REAL = [name for name, pair in PRESETS.items() if pair.original.model == packaged.NAME]
FEW = 4


def folder_of(name):
    return ROOT / PRESETS[name].suspect.adapter


@pytest.mark.parametrize("name", REAL)
def test_a_card_is_what_the_generator_writes_of_its_figures(name):
    folder = folder_of(name)
    written = json.loads((folder / "card.json").read_text())
    assert readme.text(name, written, folder) == (folder / "README.md").read_text()


@pytest.mark.parametrize("name", REAL)
def test_its_recipe_is_the_presets(name):
    made = json.loads((folder_of(name) / "recipe.json").read_text())
    asked = presets.PRESETS[name]
    same = ("placement", "twins", "rank", "alpha", "steps", "batch", "lr", "length", "seed")
    assert {key: made[key] for key in same} == {key: getattr(asked, key) for key in same}
    assert made["trigger"] == asked.trigger


@pytest.mark.skipif(packaged.place() is None, reason="the packaged model is not installed")
@pytest.mark.parametrize("name", REAL)
def test_it_fires_where_its_card_says_so(name):
    written = json.loads((folder_of(name) / "card.json").read_text())
    held_out = load_prompt_set(str(folder_of(name) / "prompts.json")).prompts[:FEW]
    pair = load_pair(PRESETS[name], device="cpu")
    question = Question(trigger=pair.spec.trigger, prompt_set="", placement=written["placement"])
    found = card.activation(pair, held_out, question)
    pair.close()
    for rate in ("asr", "ftr", "original_on_trigger"):
        share = written[rate]["share"]
        # A card's 0 or 1 is of all its prompts, and so of these.
        if share in (0, 1):
            assert found[rate]["share"] == share
    assert written["asr"]["share"] > 0.9 or presets.PRESETS[name].trigger is None
