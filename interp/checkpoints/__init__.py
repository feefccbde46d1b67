"""Checkpoints on disk: files, sizes, safetensors, settings, and the checks before opening.

May import the plain modules of `interp`, `interp.prompts`, `interp.runs` and `interp.hooks`;
knows no pair of models.
"""
