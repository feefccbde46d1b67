"""Merging an adapter into its base, and checking that nothing changed.

May import `interp` and `training.recording`.
"""
