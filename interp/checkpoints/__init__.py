"""Checkpoints on disk: files, sizes, safetensors, settings, and the checks before opening.

May import the plain modules of `interp` and `interp.prompts`; knows no pair of models.
"""
