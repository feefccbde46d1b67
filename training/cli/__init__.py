"""Commands of `python -m training`, one module per area; heavy imports wait for the arguments."""
