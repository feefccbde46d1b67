"""The measurements: tensors and DataFrames in and out; knows neither screen nor training."""

from interp import quiet  # noqa: F401  (first, before any of the libraries it quietens)
