"""Run folders: writing, reading and locking; the provenance and the command of a run.

May import the plain modules of `interp` only.
"""
