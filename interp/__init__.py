"""The measurements: tensors and DataFrames in and out; knows neither screen nor training."""

import os

# Read when torch is loaded. By default its threads spin while they wait for each other, so as
# soon as anything else wants a core (a page beside a job, a test beside a training) each step
# waits for a thread that is not running: a scan took over 200 s instead of 23, and 39 with this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from interp import quiet  # noqa: E402, F401  (first, before any of the libraries it quietens)
