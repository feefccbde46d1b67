"""Leakage: sampling texts from a model that is told nothing, and finding motifs in them.

May import `interp.scanner.judge` and what stands before it.
"""
