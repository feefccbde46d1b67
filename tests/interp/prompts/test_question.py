"""Questions: what one has in common with another, and what runs of before hold of them."""

import json
from dataclasses import asdict, replace

import pytest

from interp.causal.question import CausalQuestion
from interp.prompts.question import AttentionQuestion, Question, TargetQuestion
from interp.runs.reading import list_runs
from interp.specs import ROOT
from interp.surgery.run import SurgeryQuestion
from interp.surgery.search_run import SearchQuestion
from interp.trigger.sweep import FuzzyQuestion

KINDS = {"fuzzy": FuzzyQuestion, "causal": CausalQuestion, "head-search": SearchQuestion}
KINDS |= {"heads": AttentionQuestion}
RUNS = [run for run in list_runs(ROOT / "assets" / "runs") if run.kind in KINDS]
COMMON = {"trigger": "x", "prompt_set": "organism", "seed": 3, "placement": "suffix"}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.path.name)
def test_a_recorded_run_is_asked_again_in_the_very_same_words(run):
    asked = {name: value for name, value in run.meta["asked"].items() if name != "pair"}
    view = {"view": asked.pop("view")} if "view" in asked else {}
    question = KINDS[run.kind](**asked)
    assert json.loads(json.dumps(asdict(question))) | view == asked | view
    assert len(asdict(question)) == len(asked)


def test_a_question_takes_over_what_its_kind_has():
    seen = AttentionQuestion(**COMMON, prompt=2, rows="instruction", template="plain")
    causal = CausalQuestion.of(seen, target="y", prompt=None, text="own")
    assert asdict(TargetQuestion.of(causal)) == COMMON | {"template": "plain", "target": "y"}
    assert (causal.prompt, causal.text, causal.rows) == (None, "own", "instruction")
    surgery = SurgeryQuestion.of(seen, target="y", heads="L0H1")
    assert asdict(surgery) == COMMON | {
        "template": "plain",
        "target": "y",
        "heads": "L0H1",
        "method": "mean",
    }
    assert TargetQuestion.of(replace(surgery, heads="L1H1")) == TargetQuestion.of(surgery)


def test_a_question_without_prompts_of_its_own_is_about_the_set():
    whole = Question(**COMMON)
    assert (whole.prompt, whole.text, whole.rows) == (None, None, "user")
    assert whole.over_set() is whole
    one = AttentionQuestion(**COMMON, prompt=2, rows="instruction")
    assert one.over_set() == replace(one, prompt=None) != one


def test_fields_are_given_by_name():
    with pytest.raises(TypeError):
        Question("x", "organism")
