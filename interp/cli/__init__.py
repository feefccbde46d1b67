"""The commands of `python -m interp`: one module per area, which registers its commands.

May import everything in `interp`, but inside functions, so that `--help` does not load torch.
"""
