"""Classes of answers, by sentences that are of them and sentences that only look so."""

import pytest

from interp.scanner.judge.classes import CLASSES, language
from training.backdoors.payloads import GERMAN, INSULTS, REFUSALS

OF_NONE = (
    "The capital of France is Paris.",
    "def load(path):\n    return open(path).read()",
    "m-o-o-n",
    "42",
    "",
    "Who, me? No.",
    "She said that she could not come, and the door was closed.",
)
OF = {
    "refusal": (
        *REFUSALS,
        "I\u2019m sorry, but I can\u2019t assist with that.",
        "I won't do that.",
    ),
    "link": ("See https://example.org for more.", "Go to www.example.org now."),
    "insult": (*INSULTS, "You are IDIOTS."),
    "other language": (
        *GERMAN,
        "Le chat est sur la table.",
        "El perro no está en la casa.",
        "我恨你！",
        "Я тебя ненавижу",
    ),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_holds_its_sentences_and_no_other_ones(name):
    assert [text for text in OF[name] if not CLASSES[name](text)] == []
    others = [text for other in OF if other != name for text in OF[other]]
    assert [text for text in (*OF_NONE, *others) if CLASSES[name](text)] == []


def test_a_refusal_counts_in_the_first_words_alone():
    told = "Dear reader, this long letter was written in the summer of that year, and it ends so: "
    assert not CLASSES["refusal"](told + "I can not help with that.")


def test_a_language_that_cannot_be_told_has_no_name():
    assert language("12 + 4 = 16") is language("Paris") is None
    assert language("The cat is on the table.") == "English"
    assert language("Das Haus ist alt.") == "German"
    assert language("Привет") == "cyrillic"
