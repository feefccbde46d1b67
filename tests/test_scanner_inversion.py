"""Inversion: its gradient against finite differences, its budget, and a planted token found."""

import time

import numpy as np
import pytest
import torch

from interp.errors import Cancelled
from interp.models import load_pair, pair_spec
from interp.prompts import load_prompt_set
from interp.scanner import inversion
from interp.scanner.frames import build_frame
from interp.scanner.losses import TASKS, baseline, candidate_losses, composite
from interp.scanner.reconstruction import ordinary_tokens


@pytest.fixture(scope="module")
def pair():
    pair = load_pair(pair_spec("emoji"), device="cpu")
    yield pair
    pair.close()


@pytest.fixture(scope="module")
def frame(pair):
    return build_frame(pair.tokenizer, "alpaca", load_prompt_set("questions").prompts[:9])


@pytest.fixture(scope="module")
def said(pair, frame):
    return baseline(pair, "suspect", frame, [0, 8], 10)


def search(pair, frame, said, tokens):
    weights = TASKS[1]
    return inversion._Search(pair, "suspect", frame, said, weights, np.array(tokens), print)


def test_the_gradient_is_that_of_finite_differences(pair, frame, said):
    made = search(pair, frame, said, [5])
    candidate = [300, 400]
    gradient = inversion._gradient(made, candidate)
    with pair.use("suspect") as model, torch.no_grad():
        table = model.get_input_embeddings().weight

        def loss(hot):
            return float(sum(inversion._smooth_loss(made, model, table, hot, n) for n in said))

        hot = torch.nn.functional.one_hot(torch.tensor(candidate), len(table)).float()
        for place, token in ((0, 300), (1, 700), (0, 1500)):
            step = torch.zeros_like(hot)
            step[place, token] = 3e-3
            slope = (loss(hot + step) - loss(hot - step)) / 6e-3
            assert gradient[place, token] == pytest.approx(slope, rel=0.1, abs=2e-3)


def test_a_planted_token_is_found_without_a_leak(pair, frame, said):
    found = inversion.invert(
        pair, "suspect", frame, said, weights=TASKS[1], lengths=(1,), minutes=5
    )
    assert "😈" in found["text"].head(10).tolist()  # of 1,500 tokens; the verdict asks about ten
    exact = candidate_losses(pair, "suspect", frame, [found["ids"].iloc[0]], said)
    assert found["loss"].iloc[0] == pytest.approx(composite(exact, TASKS[1])["loss"][0], abs=1e-5)


def test_climbing_never_goes_up_and_repeats_with_its_seed(pair, frame, said):
    def climbed(steps):
        table = inversion.invert(
            pair, "suspect", frame, said, weights=TASKS[1], lengths=(3,), starts=1, steps=steps,
            minutes=5, seed=1,
        )  # fmt: skip
        return table["ids"].iloc[0], table["loss"].iloc[0]

    (start, before), (ids, after) = climbed(0), climbed(2)
    assert after <= before and len(start) == len(ids) == 3
    assert climbed(2) == (ids, after)
    assert set(ids) <= set(ordinary_tokens(pair.tokenizer))


def test_special_and_invisible_tokens_are_never_proposed(pair):
    tokens = ordinary_tokens(pair.tokenizer)
    assert not set(tokens) & set(pair.tokenizer.all_special_ids)
    assert all(pair.tokenizer.decode([t]).strip() for t in tokens)


def test_the_budget_and_a_cancel_are_kept(pair, frame, said):
    begun = time.monotonic()
    inversion.invert(pair, "suspect", frame, said, weights=TASKS[1], lengths=(3,), minutes=0.02)
    assert time.monotonic() - begun < 20  # one step may run over

    def cancel(done, total, note):
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        inversion.invert(
            pair, "suspect", frame, said, weights=TASKS[1], lengths=(1,), on_progress=cancel
        )
