"""Imports run one way: app -> interp <- training, and between rooms inside each package."""

import pytest

from interp.specs import ROOT
from tests.house import order

SOURCES = order.modules(ROOT)


def test_every_module_keeps_the_order_and_there_is_no_cycle():
    assert len(SOURCES) > 150
    assert order.violations(SOURCES) == []


def test_every_room_says_what_it_is_for_and_what_it_may_import():
    for path in sorted((ROOT / "interp").rglob("__init__.py")):
        if path.parent.name == "interp":
            continue
        text = path.read_text(encoding="utf-8")
        assert text.startswith('"""') and "import" in text, path


@pytest.mark.parametrize(
    ("module", "statement", "why"),
    [
        ("interp.runs.reading", "import streamlit", "interp knows nothing of it"),
        ("interp.runs.reading", "from training import corpus", "interp knows nothing of it"),
        ("training.corpus.words", "from app.shell import links", "training knows nothing of it"),
        ("app.shell.links", "from training.corpus import words", "app knows nothing of it"),
        ("interp.forward.greedy", "from interp.attention import study", "does not stand before"),
        ("interp.runs.reading", "from interp.prompts import sets", "does not stand before"),
        ("interp.stats", "from interp.runs.reading import Run", "does not stand before"),
        ("app.state.jobs", "from app.panels.scan import verdict", "does not stand before"),
        ("training.corpus.words", "from training.zoo import member", "does not stand before"),
        ("app.panels.scan", "from interp.figures import scan", "from interp.gallery"),
        ("app.pages.zoo", "from interp.figures.zoo import roc", "from interp.gallery"),
        (
            "interp.causal.measure",
            "def f():\n    from interp.models.load import load_pair",
            "inside a function",
        ),
        ("interp.prompts.tokens", "from interp.prompts import spans", "cycle"),
        (
            "interp.attention.heads",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    from interp.attention.study import Study",
            "cycle",
        ),
    ],
)
def test_a_planted_violation_is_found(module, statement, why):
    source = SOURCES[module]
    if "__future__" in source:
        source = source.replace("from __future__ import annotations\n", "")
    found = order.violations(SOURCES | {module: f"{source}\n\n{statement}\n"})
    assert found and any(why in one for one in found), found
    assert all(module in one for one in found)


def test_a_module_that_stands_in_no_room_is_found():
    found = order.violations(SOURCES | {"interp.odd": "from interp import errors\n"})
    assert len(found) == 1 and "interp.odd" in found[0] and "no room" in found[0]
