"""The commands of `python -m interp`, one module an area; each registers its own."""
