"""Kinds of run that follow a finding: what a probe reads off the activations.

May import `interp.figures` and the packages that measure. Pages, commands and reports use it.
"""
