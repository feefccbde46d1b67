"""Imports every file of cases, so that each registers its own."""

import importlib
import pkgutil

from tests import cases as package
from tests.cases.registry import CASES, Case

NO_CASES = {"__main__", "every", "registry", "plain"}


def cases() -> list[Case]:
    """All of them, in order of kind."""
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in NO_CASES:
            importlib.import_module(f"{package.__name__}.{module.name}")
    return sorted(CASES, key=lambda case: case.kind)
