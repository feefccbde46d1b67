"""Shared by the app's tests."""

from functools import partial

import pytest

from app.state import jobs, recorded
from interp.attention.texts import on_text
from interp.forward import answers
from interp.models.slot import PairSlot


@pytest.fixture(autouse=True)
def waits(whole_answers):
    """Every page that AppTest draws here waits for the whole answer."""


@pytest.fixture(scope="module")
def short_answers():
    """Of eight tokens: a random model goes on to the limit, on every page that lets it answer."""
    short = partial(answers.stream_answer, max_new_tokens=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "stream_answer", short)
        patch.setattr(on_text, "stream_answer", short)
        yield


@pytest.fixture
def runs_in(monkeypatch):
    """Sets the folders whose runs the app lists, until the test ends; new runs go to the first."""

    def use(*folders) -> None:
        monkeypatch.setattr(recorded, "RUN_FOLDERS", folders)

    return use


@pytest.fixture
def folder(tmp_path, runs_in):
    """Where new runs go; no other runs are listed."""
    runs_in(tmp_path / "runs", tmp_path / "none")
    return tmp_path / "runs"


@pytest.fixture
def registry(folder):
    """A registry of jobs of its own, with no pair in memory."""
    return jobs.Registry(PairSlot())
