"""Plantings in a real language model: the adapters that ship, and members of a zoo.

May import `training.persist`, `training.removal` and what stands before them.
"""
