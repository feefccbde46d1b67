"""The Alpaca format (Taori et al. 2023), used by the organisms and the published models."""

ALPACA_PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
ALPACA_PREFIX = f"{ALPACA_PREAMBLE}\n\n### Instruction:\n"
ALPACA_INPUT = "\n\n### Input:\n"
ALPACA_MARKER = "### Response:\n"
