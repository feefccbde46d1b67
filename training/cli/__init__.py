"""Commands of `python -m training`, one module an area; heavy imports wait for the arguments."""
