"""The measurements. Tensors and DataFrames go in and come out; no user interface, no training.

From Python: `from interp import open_pair, heads, attention_map, sweep, scan, causes, load_run`
(docs/python.md). They and their libraries are loaded when the first of them is taken.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# Torch reads this when it is loaded. By default its threads spin while they wait for each other.
# As soon as another process needs a core, each step then waits for a thread that is not running:
# a scan took over 200 s instead of 23 s, and 39 s with this setting.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from interp import quiet  # noqa: E402, F401  (before the libraries it silences)

OFFERED = {
    name: f"interp.interface.{module}"
    for module, names in {
        "measuring": ("open_pair", "heads", "attention_map", "sweep", "scan", "causes"),
        "results": ("load_run", "neighbours", "Result"),
    }.items()
    for name in names
}
"""Name -> the module that it is taken from at the first use."""


def __getattr__(name: str) -> Any:
    if name not in OFFERED:
        raise AttributeError(f"module 'interp' has no attribute '{name}'")
    return getattr(importlib.import_module(OFFERED[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *OFFERED})
