"""Imports every file of cases, so that each registers its own."""

import importlib
import pkgutil

from tests.cases import adapters, checkpoints, texts
from tests.cases.registry import CASES, Case


def cases() -> list[Case]:
    """All of them, in order of kind."""
    for room in (adapters, checkpoints, texts):
        for module in pkgutil.iter_modules(room.__path__):
            importlib.import_module(f"{room.__name__}.{module.name}")
    return sorted(CASES, key=lambda case: case.kind)
