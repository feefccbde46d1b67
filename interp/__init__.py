"""The measurements: tensors and DataFrames in and out. Knows neither the screen nor the training."""
