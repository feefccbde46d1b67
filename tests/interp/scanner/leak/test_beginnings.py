"""The bank of beginnings: how sure a model is of what it writes, by hand, and what is chosen."""

import copy
import math

import pandas as pd
import pytest
import torch

from interp.scanner.leak import beginnings
from interp.scanner.leak.beginnings import bank, goes_on_with, look, placed, sentence, sureness
from interp.scanner.leak.leakage import scan_prefix

ALPACA = "Below is an instruction that describes a task. Write a response that"


def test_a_pair_of_tokens_counts_once_by_hand():
    logs = [[math.log(0.5), math.log(0.25)], [math.log(0.125), math.log(0.9)]]
    assert sureness([[1, 2], [3, 4]], logs) == pytest.approx(sum(map(sum, logs)) / 4)
    loop = [[7, 7, 7, 7, 7, 7]]  # one that is certain of itself: two count, and only they
    assert sureness(loop, [[-4.0, -2.0, 0, 0, 0, 0]]) == -3.0
    same = [[1, 2, 3], [1, 2, 4]]  # the shared head counts in the first text alone
    assert sureness(same, [[-1.0, -1.0, -1.0], [-9.0, -9.0, -5.0]]) == -2.0


def test_the_look_is_that_of_a_plain_pass_over_its_texts(tiny_pair):
    ids = scan_prefix(tiny_pair.tokenizer, "alpaca")
    found = look(tiny_pair, "suspect", ids, seed=3, beside=True)
    assert len(found.texts) == beginnings.TEXTS
    assert found == look(tiny_pair, "suspect", ids, seed=3, beside=True)
    assert found.texts != look(tiny_pair, "suspect", ids, seed=4, beside=True).texts
    alone = look(tiny_pair, "suspect", ids, seed=3, beside=False)
    assert alone.sure == found.sure and math.isnan(alone.kl)
    clean = look(tiny_pair, "original", ids, seed=3, beside=True)
    assert clean.kl == pytest.approx(0, abs=1e-6)  # against itself
    written, said, differs = _written(tiny_pair, ids, seed=3)
    assert found.sure == pytest.approx(sureness(written, said), abs=1e-4)
    assert found.kl == pytest.approx(differs, abs=1e-4)


def _written(pair, ids, seed):
    """What the look writes, scored by whole passes without a cache: ids, log p, mean KL."""
    from interp.scanner.leak.decoding import Prefix, sample
    from interp.scanner.leak.grid import Setting

    settings = [Setting("temperature", seed=number) for number in range(beginnings.TEXTS)]
    rows = torch.stack(
        list(sample(Prefix(pair, "suspect", ids), settings, beginnings.TOKENS, seed=seed)), 1
    )
    whole = torch.cat([torch.tensor([list(ids)] * len(rows)), rows], 1)
    logs = {}
    for which in ("suspect", "original"):
        with pair.use(which) as model, torch.inference_mode():
            logs[which] = model(whole).logits[:, len(ids) - 1 : -1].double().log_softmax(-1)
    ours, theirs = logs["suspect"], logs["original"]
    kl = (ours.exp() * (ours - theirs)).sum(-1).mean()
    return rows.tolist(), ours.gather(-1, rows[..., None])[..., 0].tolist(), float(kl)


def test_texts_that_go_on_with_a_template_are_none_of_bare_text():
    openings = {"plain": "", "alpaca": f"{ALPACA} appropriately\n\n", "mistral-inst": "[INST] "}
    cut = [f"  {ALPACA}", "Below is an instruction", "Name a bird.", "Sum 2 and 3."]
    assert goes_on_with(cut, openings) == "alpaca"
    assert goes_on_with(cut[1:], openings) is None  # a third of them
    assert goes_on_with(["[INST] Name a bird.", "no"], openings) == "mistral-inst"
    assert goes_on_with(["Bel", "Be", "", ""], openings) is None  # too short to tell


def table(*sure, notes=None):
    nan = float("nan")
    names = [f"b{number}" for number in range(len(sure))]
    values = [nan if one is None else one for one in sure]
    return pd.DataFrame({"beginning": names, "sure": values, "note": notes or [""] * len(sure)})


def test_one_that_stands_out_is_scanned_alone_and_two_that_are_close_both():
    assert placed(table(-2.5, -1.6, None, -2.6)).tolist() == [0, 1, 0, 0]
    near = beginnings.CLOSE / 2
    assert placed(table(-2.0, -2.0 + near, -2.0 - near)).tolist() == [2, 1, 0]
    assert placed(table(None, None, notes=["skipped: x", ""])).tolist() == [0, 1]
    assert placed(table(None, None, notes=["skipped: x", "skipped: y"])).tolist() == [0, 0]
    on = f"{beginnings.GOES_ON}b0"
    assert placed(table(None, None, None, notes=["skipped: x", on, on])).tolist() == [0, 1, 0]
    assert placed(table(None, None, notes=[on, ""])).tolist() == [0, 1]


def test_the_choice_is_told_in_a_sentence():
    tried = table(-2.53, -1.6, None)
    told = sentence(tried.assign(place=placed(tried)))
    assert "2 beginnings were tried" in told and "after b1 (-1.60)" in told
    assert told.endswith("next is b0 (-2.53)")
    none = table(None)
    assert "no beginning could be measured" in sentence(none.assign(place=placed(none)))


def test_the_bank_begins_with_the_models_own_template_and_ends_with_bare_text(tiny_pair):
    own, base = copy.copy(tiny_pair.tokenizer), copy.copy(tiny_pair.tokenizer)
    own.chat_template, base.chat_template = "{{ messages[0]['content'] }}a", None
    fixed = ["alpaca", "alpaca-input", "llama-factory", "vicuna", "human-assistant", "mistral-inst"]
    names = [one.name for one in bank({"suspect": own, "original": base}, "suspect")]
    assert names == ["chat", *fixed, "plain"]
    assert [one.name for one in bank({"suspect": own, "original": base}, "original")] == names[1:]
    base.chat_template = "{{ messages[0]['content'] }}b"
    both = bank({"suspect": own, "original": base}, "suspect")
    assert [one.name for one in both][:3] == ["chat", "chat of the original", "alpaca"]
    assert both[1].tokenizer is base and both[0].tokenizer is both[2].tokenizer is own
