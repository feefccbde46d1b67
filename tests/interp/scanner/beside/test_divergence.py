"""Divergence of a pair: exact values and gradients against plain forward passes."""

import numpy as np
import pytest
import torch

from interp.prompts.sets import Prompt
from interp.scanner.beside.divergence import Divergence, pieces, ranked
from interp.scanner.search.frames import build_frame


@pytest.fixture(scope="module")
def measure(tiny_pair):
    questions = [Prompt("Name a bird.", ""), Prompt("Is it late?", "")]
    frame = build_frame(tiny_pair.tokenizer, "plain", questions)
    return Divergence(tiny_pair, frame, (0, 1))


def by_hand(measure, rows):
    """Mean KL in nats of whole prompts, one plain forward pass each, in double precision."""
    each = []
    for ids in rows:
        logs = []
        for side in ("suspect", "original"):
            with measure.pair.use(side) as model, torch.inference_mode():
                logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            logs.append(logits.double().log_softmax(-1).numpy())
        each.append(float((np.exp(logs[0]) * (logs[0] - logs[1])).sum()))
    return np.mean(each)


def test_the_search_ends_where_brute_force_over_a_tiny_vocabulary_does(measure):
    tokens = list(range(40, 72))
    brute = [by_hand(measure, [measure.frame.ids(q, [t]) for q in (0, 1)]) for t in tokens]
    exact = measure.exact([[t] for t in tokens])
    np.testing.assert_allclose(exact, brute, rtol=1e-3, atol=1e-6)
    assert np.argsort(-exact)[:5].tolist() == np.argsort(brute)[::-1][:5].tolist()
    mixed = measure.exact([[40, 41, 42], [43], [44, 45, 46]], questions=[1])
    rows = [[measure.frame.ids(1, ids)] for ids in ([40, 41, 42], [43], [44, 45, 46])]
    np.testing.assert_allclose(mixed, [by_hand(measure, row) for row in rows], rtol=1e-3, atol=1e-6)
    plain = by_hand(measure, [measure.frame.ids(q, None) for q in (0, 1)])
    assert measure.plain() == pytest.approx(plain, rel=1e-3, abs=1e-6)


def test_the_gradient_is_the_slope_of_d_towards_every_token(measure):
    start, eps = [50, 51], 1e-2
    gradient = measure.gradient(start)
    assert gradient.shape == (2, measure.pair.config.vocab_size)
    for place, token in ((0, 60), (1, 45), (1, 70)):
        sides = []
        for sign in (1, -1):
            each = [moved(measure, q, start, place, token, sign * eps) for q in (0, 1)]
            sides.append(np.mean(each))
        slope = (sides[0] - sides[1]) / (2 * eps)
        mine = gradient[place, token] - gradient[place, start[place]]
        assert mine == pytest.approx(slope, rel=0.05, abs=1e-4)


def moved(measure, number, start, place, token, eps):
    """D on one question with a token's embedding moved a little towards another's."""
    ids = list(measure.frame.ids(number, start))
    at, logs = len(measure.frame.prefix) + place, []
    for side in ("suspect", "original"):
        with measure.pair.use(side) as model, torch.inference_mode():
            table = model.get_input_embeddings().weight
            embeds = table[torch.tensor(ids)].clone()
            embeds[at] += eps * (table[token] - table[ids[at]])
            logits = model(inputs_embeds=embeds[None], use_cache=False).logits[0, -1]
        logs.append(logits.double().log_softmax(-1))
    return float((logs[0].exp() * (logs[0] - logs[1])).sum())


def test_tokens_are_ranked_by_their_best_place_and_pieces_by_their_questions():
    order = ranked([np.array([0.0, 3.0, 2.0, 1.0]), np.array([5.0, 0.0, 4.0, 1.0])])
    assert order.tolist() == [1, 0, 2, 3] or order.tolist() == [0, 1, 2, 3]
    found = pieces([(7, 8, 9), (7, 8), (8, 7, 8, 8)], 8)
    assert found[:2] == [(7,), (8,)] and found[2] == (7, 8) and (7, 8, 9) not in found
