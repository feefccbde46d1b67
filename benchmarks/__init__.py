"""Speed as a ratio against a named baseline in the same process. Run with python -m benchmarks NAME."""
