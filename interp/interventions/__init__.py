"""Interventions on heads: replacing the value of a head and continuing the forward pass from there.

May import `interp.forward` and what stands before it.
"""
