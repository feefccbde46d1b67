"""The adapters that ship on a real language model: made from a planting's run, and measured.

May import `interp` and the other rooms of `training`.
"""
