"""Amplified leakage: its logits by hand, alpha 0 to the token, who can be amplified."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.errors import UsageError
from interp.scanner.leak.amplified import ALPHAS, TEXTS, Beside, amplified
from interp.scanner.leak.decoding import Prefix
from interp.scanner.leak.grid import Setting, describe, load_grid
from interp.scanner.leak.leakage import leak, scan_prefix

PLAIN = tuple(Setting("temperature", temperature=1.1, seed=seed) for seed in range(4))


def first_logits(pair, which, ids):
    """[vocabulary] next-token logits of one plain forward pass."""
    with pair.use(which) as model, torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double().numpy()


def test_logits_are_amplified_as_by_hand_while_texts_grow(tiny_pair):
    prefix, settings = (5, 9, 7), (PLAIN[0], replace(PLAIN[1], alpha=2.0), PLAIN[2])
    suspect, original = (Prefix(tiny_pair, which, prefix) for which in ("suspect", "original"))
    beside, cache = Beside(original, settings, 4), suspect.cache(3, 4)
    said = torch.tensor([[11, 12], [21, 22], [31, 32]])
    logits = suspect.logits.expand(3, -1)
    for step in range(3):
        ours = beside.amplify(logits).double().numpy()
        for row, setting in enumerate(settings):
            ids = [*prefix, *said[row, :step].tolist()]
            own, other = (first_logits(tiny_pair, w, ids) for w in ("suspect", "original"))
            wanted = own + setting.alpha * (own - other)
            np.testing.assert_allclose(ours[row], wanted, rtol=1e-4, atol=1e-4)
        if step < 2:
            logits = suspect.step(said[:, step, None], cache)
            beside.step(said[:, step])


def test_alpha_0_is_plain_leakage_to_the_token_and_another_alpha_is_not(tiny_pair):
    prefix = scan_prefix(tiny_pair.tokenizer, "plain")
    plain = leak(tiny_pair, "suspect", prefix, PLAIN, max_new_tokens=12)
    loud = tuple(replace(setting, alpha=3.0) for setting in PLAIN)
    both = leak(tiny_pair, "suspect", prefix, PLAIN + loud, max_new_tokens=12)
    assert both["ids"].tolist()[:4] == plain["ids"].tolist()
    assert all(ids not in plain["ids"].tolist() for ids in both["ids"].tolist()[4:])
    assert both["alpha"].tolist() == [0.0] * 4 + [3.0] * 4
    alone = leak(tiny_pair, "suspect", prefix, loud, max_new_tokens=12, batch_size=3)
    assert alone["ids"].tolist() == both["ids"].tolist()[4:]


def test_the_same_settings_of_a_grid_are_amplified_by_each_alpha():
    grid = load_grid("quick")
    chosen = amplified(grid)
    assert len(chosen) == len(ALPHAS) * TEXTS == len(set(chosen))
    for number, alpha in enumerate(ALPHAS):
        mine = chosen[number * TEXTS : (number + 1) * TEXTS]
        assert {setting.alpha for setting in mine} == {alpha}
        assert {replace(setting, alpha=0.0) for setting in mine} <= set(grid)
    assert describe(chosen[-1]).endswith(f", alpha {ALPHAS[-1]:g}")
    assert len(amplified(grid[:3])) == len(ALPHAS) * 2  # the first one is greedy


def test_what_cannot_be_amplified(tiny_pair):
    with pytest.raises(UsageError, match="against itself"):
        leak(tiny_pair, "original", (0,), [replace(PLAIN[0], alpha=1.0)], max_new_tokens=2)
    for wrong in ({"method": "beam", "beams": 2}, {"method": "greedy", "alpha": float("nan")}):
        with pytest.raises(UsageError, match="alpha"):
            Setting(**{"alpha": 1.0, **wrong})
