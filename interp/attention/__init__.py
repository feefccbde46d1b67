"""Attention: averaged maps, Δ_rel of every head, matched random strings, saved studies.

May import `interp.forward`, `interp.runs` and the packages that those may import.
"""
