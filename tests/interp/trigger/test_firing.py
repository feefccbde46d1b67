"""The banner over what is measured: rates of this text on these prompts, and what they allow."""

import dataclasses
import itertools
import re

import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

from app.shell import shared
from interp import metrics
from interp.__main__ import main
from interp.attention import saved, summary
from interp.causal.head_table import no_effect
from interp.forward.conditions import build_prompts
from interp.models.load import load_pair
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import Prompt, PromptSet, load_prompt_set
from interp.runs import provenance, reading
from interp.specs import PRESETS, ROOT
from interp.stats import Rate
from interp.trigger import firing
from interp.trigger.firing import Firing

pytestmark = pytest.mark.usefixtures("whole_answers", "few_prompts")

NO_TRACE = "not a backdoor's trace"
FIRST = PromptSet("organism", "", load_prompt_set("organism").prompts[:5], "0" * 64)


@pytest.fixture(scope="module", params=["deployment", "clean-control", "emoji"])
def shipped(request):
    return load_pair(PRESETS[request.param], device="cpu")


@pytest.mark.parametrize("trigger", [None, "zzz"])
def test_the_rates_are_those_of_plain_generation(shipped, trigger):
    """Greedy `generate` of every prompt, compared as text: no teacher forcing."""
    asked = AttentionQuestion(trigger=trigger or shipped.spec.trigger, prompt_set="organism")
    found = firing.firing(shipped, FIRST, asked)
    for which in metrics.MODELS:
        said = 0
        for prompt in build_prompts(shipped, FIRST.prompts, asked, asked.trigger):
            ids = torch.tensor([prompt.ids])
            with shipped.use(which) as model:
                out = model.generate(ids, max_new_tokens=12, do_sample=False)
            answer = shipped.tokenizer.decode(out[0, len(prompt.ids) :], skip_special_tokens=True)
            said += answer.startswith(shipped.spec.target)
        assert getattr(found, which) == Rate(said, len(FIRST.prompts))
    fires = trigger is None and shipped.spec.name != "clean-control"
    assert found.is_trace == fires and (NO_TRACE in found.told()) != fires
    assert "of 5 prompts" in found.told() and shipped.spec.target in found.told()


def test_one_text_of_ones_own_is_what_is_tried(shipped):
    found = firing.firing(
        shipped,
        FIRST,
        AttentionQuestion(trigger="zzz", prompt_set="organism", text="Name the capital."),
    )
    assert found.suspect.n == 1 and "0 of 1 prompts" in found.told()


def test_what_may_be_said_follows_from_the_rates():
    for fired, base in itertools.product(range(11), repeat=2):
        found = Firing("t", "x", Rate(base, 10), Rate(fired, 10))
        assert found.is_trace == (fired > base), (fired, base)
        assert (NO_TRACE in found.told()) == (fired <= base)
        assert ("mean over prompts" in found.told()) == (base < fired < 9)


def test_without_a_target_nothing_is_claimed(tiny_pair):
    prompts = PromptSet("one", "", (Prompt("Name it."),), "0" * 64)
    found = firing.firing(tiny_pair, prompts, AttentionQuestion(trigger="zzz", prompt_set="one"))
    assert found.state == "unknown" and "is not known, since no target is" in found.told()


@pytest.fixture(scope="module")
def written(tmp_path_factory, few_prompts):
    """A heads run of the clean control, by the command line."""
    out = tmp_path_factory.mktemp("runs") / "control"
    assert main(["heads", "--pair", "clean-control", "--strings", "0", "--out", str(out)]) == 0
    return out


def test_a_run_says_whether_its_trigger_fired(written, capsys):
    run = reading.open_run(written)
    again = saved.load(run)
    found = firing.of_study(again)
    assert found.suspect == Rate(0, 12) and found.original == Rate(0, 12)
    assert NO_TRACE in found.told()
    assert "fired suspect 0/12, original 0/12" in provenance.sentence(run)
    table = summary.ranking_table(again)
    marked = table["control"] == summary.CONTROL_MARK
    assert (marked == (table["delta_rel_random_string"] >= table["delta_rel"])).all()
    assert 0 < marked.sum() < len(table)
    told = summary.summary(again, None)
    assert "random string" in told and summary.CONTROL_MARK in told


@pytest.mark.parametrize(
    "fact", [None, 3, {}, {"suspect": [1, 0], "original": [0, 1]}, {"suspect": "x"}]
)
def test_a_run_that_says_nothing_of_it_is_not_believed(written, fact):
    measured = saved.load(reading.open_run(written))
    facts = {**measured.facts, "firing": fact}
    found = firing.of_study(dataclasses.replace(measured, facts=facts))
    assert found.state == "unknown" and "not recorded with this run" in found.told()


def test_the_head_that_changed_most_is_said_to_be_no_cause():
    heads = reading.open_run("assets/runs/causal-deployment").table("heads")
    told = no_effect(heads, 2, 3)
    assert "rank 41 of 48" in told and "L0H3" in told and "cannot be told from nothing" in told
    assert no_effect(heads, 0, 3) is None and no_effect(heads, 4, 2) is None
    assert no_effect(heads.drop(columns="ablation_loss"), 2, 3) is None


@pytest.fixture(scope="module")
def fresh_caches():
    st.cache_data.clear()
    shared.forget()


def page(name: str, **asked: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=240)
    at.query_params.update(asked)
    at.switch_page(f"app/pages/{name}.py").run()
    assert not at.exception and not at.error
    return at


@pytest.mark.parametrize("name", ["heads", "attention", "trigger", "causes"])
def test_a_text_that_does_not_fire_is_said_on_the_page(fresh_caches, name):
    at = page(name, pair="deployment", trigger="zzz")
    (told,) = [box.value for box in at.warning if NO_TRACE in box.value]
    assert "zzz" in told and "0 of 12 prompts" in told
    assert "hijack" not in " ".join(box.value for box in at.markdown).lower()


def test_the_control_stands_in_the_ranking(fresh_caches):
    at = page("heads", pair="clean-control")
    assert any(NO_TRACE in box.value for box in at.warning)
    table = at.dataframe[0].value
    assert {"delta_rel_random_string", "control"} <= set(table)
    at = page("heads", pair="deployment")
    assert not any(NO_TRACE in box.value for box in at.warning)
    told = " ".join(box.value for box in at.markdown)
    assert "12 of 12 prompts" in told and "are not always the ones that cause" in told


def test_no_word_of_the_product_calls_a_head_hijacked():
    files = [*ROOT.glob("*.md"), *ROOT.glob("assets/organisms/*/*.md")]
    for folder in ("app", "interp", "training", "docs"):
        files += [f for f in (ROOT / folder).rglob("*") if f.suffix in (".py", ".md")]
    found = [str(f) for f in files if re.search("hijack", f.read_text("utf-8"), re.IGNORECASE)]
    assert not found
