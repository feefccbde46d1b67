"""The measurements: tensors and DataFrames in and out; knows neither screen nor training."""
