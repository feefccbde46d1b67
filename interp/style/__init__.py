"""Style of every figure: palette, presets for paper, slides and web, shared scales.

May import the plain modules of `interp` only.
"""
