"""Runs as things: listed, named, noted, put aside and brought back, packed and unpacked.

May import the plain modules of `interp` and the other modules of `runs` only.
"""
