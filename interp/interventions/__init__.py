"""Interventions on heads: replace a head's output and resume the forward pass from there.

May import `interp.forward` and the packages that it may import.
"""
