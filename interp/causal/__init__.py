"""Causal measures: ablation, patching, attribution, divergence, one table of all heads.

May import `interp.interventions`, `interp.attention` and the packages that these may import.
"""
