"""Interventions and maps of heads against plain hooks, against theory, and as properties."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.causal.ablation import ablation, other_prompts
from interp.causal.attribution import attribution_patching, direct_logits
from interp.causal.divergence import pattern_divergence, token_divergence
from interp.causal.head_table import head_table
from interp.causal.patching import indirect_effect, patching
from interp.errors import UsageError
from interp.hooks.capture import Region, read_regions
from interp.interventions.each_head import answer_kl
from interp.interventions.replacements import means
from interp.interventions.resume import Anatomy, Replaced, record
from interp.models.load import load_pair
from interp.pattern_metrics.distance import KL_FLOOR, kl_of_rows
from interp.pattern_metrics.sparsity import sparsity
from interp.prompts.conversations import block_of, converse
from interp.prompts.spans import build_prompt
from interp.specs import pair_spec
from tests.interp.interventions.test_resume import QUESTIONS, conversations, plain_logits
from tests.support import tiny


@pytest.fixture(scope="module", params=["fp32", "nf4"])
def pair(request, tiny_folder):
    base, adapter = tiny_folder(), tiny_folder(kind="adapter")
    spec = pair_spec(str(base), adapter=str(adapter), precision=request.param, template="plain")
    return load_pair(spec, device="cpu")


@pytest.fixture(scope="module")
def said(pair):
    return conversations(pair)


def table(parts):
    found = pd.concat([frame for _, _, frame in parts], ignore_index=True)
    return found.set_index(["metric", "prompt", "layer", "head"])["value"].sort_index()


def z_of(model, conversation):
    """A layer: [pos, d_z], by plain hooks."""
    heard = []
    handles = [
        p.register_forward_pre_hook(lambda _, args: heard.append(args[0][0].clone()))
        for p in Anatomy(model).projections
    ]
    with torch.inference_mode():
        model(input_ids=torch.tensor([conversation.ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return heard


def swapped(model, layer, head, source):
    columns = Anatomy(model).columns(layer, head)

    def edit(z):
        z = z.clone()
        z[..., columns] = source[..., columns]
        return z

    return {layer: edit}


def slack(pair, scale):
    """fp32 to rounding; bf16 weights and activations to theirs."""
    return (1e-5 if pair.spec.suspect.precision == "fp32" else 0.15) * max(1.0, float(scale))


def loss_of(logits, conversation):
    wanted = torch.tensor(conversation.ids[conversation.answer.slice])
    return float(torch.nn.functional.cross_entropy(logits, wanted))


def kl_of(ours, theirs):
    p, q = ours.double().softmax(-1), theirs.double().softmax(-1)
    return float((p * (p.log() - q.log())).sum())


def test_patching_equals_plain_hooks(pair, said):
    for into, other, name in (
        ("suspect", "original", "patching_kl"),
        ("original", "suspect", "insertion_kl"),
    ):
        found = table(patching(pair, said, into=into))
        for prompt, conversation in enumerate(said[:2]):
            with pair.use(other) as model:
                theirs, z = plain_logits(model, conversation), z_of(model, conversation)
            with pair.use(into) as model:
                for layer, head in ((0, 1), (1, 3), (2, 0)):
                    edits = swapped(model, layer, head, z[layer])
                    expected = kl_of(plain_logits(model, conversation, edits), theirs)
                    measured = found[name, prompt, layer, head]
                    assert abs(measured - expected) <= slack(pair, expected)


def test_ablation_equals_plain_hooks(pair, said):
    reference = said[1:]
    for method in ("zero", "positions"):
        found = table(ablation(pair, said, reference, method=method))["ablation_loss"]
        with pair.use("suspect") as model:
            every = [z_of(model, c) for c in reference]
            for prompt, conversation in enumerate(said[:2]):
                before = loss_of(plain_logits(model, conversation), conversation)
                for layer, head in ((0, 0), (2, 3)):
                    source = torch.cat([z[layer] for z in every]).float().mean(0)
                    source = source * 0 if method == "zero" else source
                    edits = swapped(model, layer, head, source)
                    after = loss_of(plain_logits(model, conversation, edits), conversation)
                    assert abs(found[prompt, layer, head] - (after - before)) <= slack(pair, 1)


def test_ablation_with_its_own_mean_changes_nothing(pair, said):
    one = said[:1]
    found = table(ablation(pair, one * 2, one * 2, method="mean"))
    assert found.abs().max() <= (1e-5 if pair.spec.suspect.precision == "fp32" else 0.1)


def test_what_is_measured_does_not_hang_on_the_order(pair, said):
    if pair.spec.suspect.precision != "fp32":
        pytest.skip("padding moves low-precision numbers")
    back = said[::-1]
    for measure in (
        patching,
        attribution_patching,
        direct_logits,
        pattern_divergence,
        lambda pair, c: ablation(pair, c, c),
    ):
        forth, turned = table(measure(pair, said)), table(measure(pair, back)).reset_index()
        turned["prompt"] = len(said) - 1 - turned["prompt"]
        turned = turned.set_index(forth.index.names)["value"].reindex(forth.index)
        assert np.allclose(forth, turned, rtol=1e-4, atol=1e-5)


def test_a_model_against_itself_differs_nowhere(tiny_folder, said):
    same = load_pair(pair_spec(str(tiny_folder()), str(tiny_folder()), precision="fp32"))
    assert token_divergence(same, said[0])["kl"].abs().max() == 0
    assert table(pattern_divergence(same, said)).abs().max() == 0
    assert table(patching(same, said)).abs().max() <= 1e-5
    assert table(attribution_patching(same, said)).abs().max() == 0


def test_an_attention_only_adapter_is_undone_by_patching_every_head(tiny_folder, tmp_path):
    """With q, k and v alone adapted, all that differs goes through z."""
    adapter = tiny.write_adapter(
        tmp_path / "qkv", tiny_folder(), target_modules=["q_proj", "k_proj", "v_proj"]
    )
    spec = pair_spec(str(tiny_folder()), adapter=str(adapter), precision="fp32", template="plain")
    pair = load_pair(spec)
    block = block_of(conversations(pair), range(3))
    with pair.use("original") as model:
        original = record(model, block)
    every = tuple((layer, head) for layer in range(3) for head in range(4))
    with pair.use("suspect") as model:
        before = answer_kl(record(model, block).logits, original.logits, block)
        patched = record(model, block, Replaced(every, original.z))
    assert (before > 0.01).all()
    torch.testing.assert_close(
        patched.logits[block.valid], original.logits[block.valid], rtol=0, atol=1e-4
    )


def test_direct_contributions_sum_to_the_logit(pair, said):
    found = table(direct_logits(pair, said)).groupby(["metric", "prompt"]).sum()
    for which, name in (("suspect", "direct"), ("original", "direct_original")):
        for prompt, conversation in enumerate(said):
            with pair.use(which) as model:
                logits = plain_logits(model, conversation)
            wanted = torch.tensor(conversation.ids[conversation.answer.slice])[:, None]
            expected = (logits.gather(1, wanted)[:, 0] - logits.mean(1)).mean()
            assert abs(found[name, prompt] - float(expected)) <= slack(pair, 1) * 10


def test_attribution_is_the_slope_of_patching(tiny_folder, tmp_path, said):
    """With a small adapter the first order is all there is."""
    torch.manual_seed(3)
    adapter = tiny.write_adapter(tmp_path / "a", tiny_folder(), lora_alpha=0.04)
    spec = pair_spec(str(tiny_folder()), adapter=str(adapter), precision="fp32", template="plain")
    pair = load_pair(spec)
    estimate = table(attribution_patching(pair, said))["attribution"]
    exact = table(patching(pair, said))["patching_effect"]
    # KL is quadratic around its zero, so a small patch takes away less than its slope says;
    # what is compared is the order of heads.
    assert estimate.corr(exact, method="spearman") > 0.9


def test_token_divergence_by_hand(pair, said):
    found = token_divergence(pair, said[0])
    assert list(found["part"].unique())[-1] == "answer" and np.isnan(found["kl"][0])
    assert (found["kl"].dropna() >= 0).all()
    logits = {}
    for which in ("original", "suspect"):
        with pair.use(which) as model, torch.inference_mode():
            ids = torch.tensor([said[0].ids])
            logits[which] = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(
            logits[which], torch.tensor(said[0].ids[1:]), reduction="none"
        )
        assert np.allclose(found[f"loss_{which}"][1:], loss, atol=1e-5)
    last = kl_of(logits["suspect"][-1:], logits["original"][-1:])
    assert abs(found["kl"].iloc[-1] - last) <= 1e-4


def test_pattern_distances_by_hand(pair, said):
    """Total variation and KL a row of three prompts, in NumPy."""
    found = table(pattern_divergence(pair, said))
    tolerance = 1e-4 if pair.spec.suspect.precision == "fp32" else 0.05
    for number, conversation in enumerate(said[:3]):
        rows = {}
        for which in ("original", "suspect"):
            region = Region(
                torch.tensor([list(conversation.predicting)]),
                torch.arange(len(conversation.ids) - 1)[None],
                "map",
            )
            ids = torch.tensor([conversation.ids[:-1]])
            with pair.use(which) as model:
                read = read_regions(model, ids, None, {"rows": region})["rows"]
            rows[which] = read.numpy().astype(np.float64)
        for layer, head in ((0, 0), (2, 3)):
            ours, theirs = (rows[w][layer, head] for w in ("suspect", "original"))
            ours, theirs = (w / w.sum(1, keepdims=True) for w in (ours, theirs))
            tv = np.abs(ours - theirs).sum(1) / 2
            kl = (ours * np.log(np.maximum(ours, 1e-6) / np.maximum(theirs, 1e-6))).sum(1)
            at = number, layer, head
            assert found["pattern_tv"][at] == pytest.approx(tv.mean(), rel=tolerance)
            assert found["pattern_kl_row"][at] == pytest.approx(kl.mean(), rel=tolerance, abs=1e-5)
            assert 0 <= found["pattern_tv"][at] <= 1


def test_kl_of_attention_that_underflowed_is_the_floor_s():
    ours, theirs = torch.tensor([[[0.5, 0.5]]]).double(), torch.tensor([[[1.0, 0.0]]]).double()
    kl = [float(kl_of_rows(ours, theirs, floor)) for floor in (KL_FLOOR, 1e-38)]
    assert kl == pytest.approx([0.5 * np.log(0.5) + 0.5 * np.log(0.5 / f) for f in (1e-6, 1e-38)])


@pytest.mark.parametrize("by", ["replace", "add"])
def test_indirect_effect_equals_a_plain_hook(pair, said, by):
    clean = [
        converse(
            build_prompt(pair.tokenizer, question, template="plain"),
            said[0].ids[said[0].answer.slice],
        )
        for question in QUESTIONS
    ]
    triggered = means(pair, "suspect", said)
    found = table(indirect_effect(pair, clean, triggered, by=by))["indirect"]
    conversation = clean[1]
    last = conversation.answer.start - 1
    with pair.use("suspect") as model:
        before = loss_of(plain_logits(model, conversation), conversation)
        added = triggered.at(1, [conversation.slots[last]])[0]
        columns = Anatomy(model).columns(1, 2)

        def edit(z):
            z = z.clone()
            own = z[0, last, columns] if by == "add" else 0
            z[0, last, columns] = own + added[columns].to(z.dtype)
            return z

        after = loss_of(plain_logits(model, conversation, {1: edit}), conversation)
    expected = np.exp(-after) - np.exp(-before)
    assert abs(found[1, 1, 2] - expected) <= slack(pair, 0.01)


@given(st.integers(1, 5), st.integers(0, 99))
def test_kl_is_never_negative_and_zero_on_itself(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    block = block_of_rows(rows)
    a, b = (5 * torch.randn(2, rows, 7, generator=generator) for _ in range(2))
    assert (answer_kl(a, b, block) >= 0).all()
    assert torch.equal(answer_kl(a, a, block), torch.zeros(2))


def block_of_rows(rows):
    from interp.prompts.conversations import Block

    ids = torch.zeros(2, rows, dtype=torch.long)
    return Block((0, 1), ids[:1, :0], ids, ids, ids, torch.ones(2, rows, dtype=torch.bool))


def test_a_reference_too_small_or_an_unknown_method_is_refused(pair, said):
    with pytest.raises(UsageError, match="reference set has 1"):
        ablation(pair, said, said[:1], method="mean")
    with pytest.raises(UsageError, match="'median' is not known"):
        ablation(pair, said, said, method="median")


def test_head_table_by_hand():
    rows = [
        (prompt, 0, head, f"l_{which}", value)
        for prompt in (0, 1)
        for head, values in enumerate([(0.2, 0.1), (0.00001, 0.0)])
        for which, value in zip(("original", "suspect"), values, strict=True)
    ]
    columns = ["prompt", "layer", "head", "metric", "value"]
    kl = [(0, 0, 0, "patching_kl", 3.0), (0, 0, 1, "patching_kl", 2.0)]
    found = head_table(
        {
            "delta": pd.DataFrame(rows, columns=columns),
            "patching": pd.DataFrame(kl, columns=columns),
        }
    )
    assert found["delta_rel"][0] == pytest.approx(0.5) and np.isnan(found["delta_rel"][1])
    assert found["delta_rel_low"][0] == found["delta_rel_high"][0] == pytest.approx(0.5)
    assert found["patching_kl_rank"].tolist() == [2, 1] and found["patching_kl_low"].isna().all()
    assert head_table({"delta": None}).empty


def test_patching_equals_transformer_lens(pair, said):
    """Their hook on `hook_z`, on fp32 and on NF4 with the adapter live."""
    found = table(patching(pair, said))["patching_kl"]
    ids = torch.tensor([said[0].ids])
    name, rows = "blocks.1.attn.hook_z", list(said[0].predicting)
    with pair.bridge("original") as bridge, torch.inference_mode():
        theirs, cache = bridge.run_with_cache(ids)
    with pair.bridge("suspect") as bridge, torch.inference_mode():

        def patch(z, hook):
            z = z.clone()
            z.view(*z.shape[:2], pair.n_heads, -1)[:, :, 2] = cache[name].view(
                *z.shape[:2], pair.n_heads, -1
            )[:, :, 2]
            return z

        patched = bridge.run_with_hooks(ids, fwd_hooks=[(name, patch)])
    expected = kl_of(patched[0, rows].float(), theirs[0, rows].float())
    assert abs(found[0, 1, 2] - expected) <= 10 * slack(pair, expected)


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_one_prompt_is_never_filled_from_itself(tiny_pair, chosen):
    def asked(trigger):
        prompts = [
            build_prompt(tiny_pair.tokenizer, question, template="plain", trigger=trigger)
            for question in QUESTIONS
        ]
        return [converse(prompt, [5]) for prompt in prompts]

    triggered, reference = asked("|X|"), asked("|Y|")
    drawn = {
        reference.index(other_prompts(triggered[chosen : chosen + 1], reference, seed)[0])
        for seed in range(20)
    }
    assert drawn == {0, 1, 2} - {chosen}
    with pytest.raises(UsageError, match="all of this set ask the same"):
        other_prompts(triggered[:1], reference[:1] * 2, 0)


def causal(rows: np.ndarray) -> torch.Tensor:
    """The last rows of a causal pattern: nothing behind the diagonal, each row summing to 1."""
    n_rows, n_keys = rows.shape
    masked = np.tril(rows, n_keys - n_rows)
    return torch.tensor(masked / masked.sum(1, keepdims=True))[None, None]


def test_sparsity_by_hand():
    rows = np.array([[0.5, 0.5, 0, 0], [0, 1.0, 0, 0], [0.5, 0.5, 0, 0]])
    by_hand = []
    for row, n in zip(rows, (2, 3, 4), strict=True):  # keys that each row may see
        by_hand.append((n**0.5 - 1 / np.sqrt((row**2).sum())) / (n**0.5 - 1))
    assert by_hand[:2] == pytest.approx([0, 1])
    assert float(sparsity(torch.tensor(rows)[None, None])) == pytest.approx(np.mean(by_hand))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(0, 20), st.integers(0, 10**6))
def test_sparsity_is_0_for_rows_uniform_over_what_they_see_and_1_on_one_key(n_rows, more, seed):
    shape = n_rows, n_rows + more
    assert float(sparsity(causal(np.ones(shape)))) == pytest.approx(float(more == 0) / n_rows)
    first = np.zeros(shape)
    first[:, 0] = 1
    assert float(sparsity(causal(first))) == pytest.approx(1)
    weights = np.random.default_rng(seed).dirichlet(np.full(shape[1], 0.3), size=n_rows) + 1e-9
    assert -1e-9 <= float(sparsity(causal(weights))) <= 1 + 1e-9


def test_the_rows_that_predict_an_answer_are_the_last_of_the_pattern(said):
    for conversation in said:
        last = len(conversation.ids) - 1
        rows = list(conversation.predicting)
        assert rows == list(range(last - len(rows), last))
