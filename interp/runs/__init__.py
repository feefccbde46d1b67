"""Run folders: writing, reading, locking; where a run comes from and its command.

May import the plain modules of `interp` only.
"""
