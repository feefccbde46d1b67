"""Beside the original: what a suspect does that its original does not, no target needed.

May import `interp.scanner.search` and what stands before it.
"""
