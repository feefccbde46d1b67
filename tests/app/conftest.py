"""Shared by the app's tests."""

import pytest

from app.state import recorded


@pytest.fixture
def runs_in(monkeypatch):
    """Sets the folders whose runs the app lists, until the test ends; new runs go to the first."""

    def use(*folders) -> None:
        monkeypatch.setattr(recorded, "RUN_FOLDERS", folders)

    return use
