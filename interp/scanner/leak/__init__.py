"""Leakage: sampling texts from a model without a question, and finding motifs in them.

May import `interp.scanner.judge` and what stands before it.
"""
