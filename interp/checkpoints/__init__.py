"""Checkpoints on disk: files, sizes, safetensors, settings, and whether they can be opened safely.

May import the plain modules of `interp` and `interp.prompts`; knows no pair of models.
"""
