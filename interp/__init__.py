"""The measurements. Tensors and DataFrames go in and come out; no user interface, no training."""

import os

# Torch reads this when it is loaded. By default its threads spin while they wait for each other.
# As soon as another process needs a core, each step then waits for a thread that is not running:
# a scan took over 200 s instead of 23 s, and 39 s with this setting.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from interp import quiet  # noqa: E402, F401  (before the libraries it silences)
