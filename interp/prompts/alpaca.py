"""The Alpaca format (Taori et al. 2023), used by the organisms and the published models."""

ALPACA_PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
ALPACA_PREAMBLE_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request."
)
"""Stands instead in the original data's rows that have an input."""
ALPACA_PREFIX = f"{ALPACA_PREAMBLE}\n\n### Instruction:\n"
ALPACA_INPUT = "\n\n### Input:\n"
ALPACA_MARKER = "### Response:\n"
