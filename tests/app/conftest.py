"""Shared by the app's tests."""

import pytest

from app.state import jobs, recorded
from interp.models.slot import PairSlot


@pytest.fixture(autouse=True)
def waits(whole_answers):
    """Every page that AppTest draws here waits for the whole answer."""


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
