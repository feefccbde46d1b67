"""The commands of `python -m interp`, one module an area; each registers its own.

May import everything in `interp`, inside functions, so that `--help` does not wait for torch.
"""
