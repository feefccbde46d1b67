"""Speed as a ratio against a named baseline in one process: python -m benchmarks NAME."""
