"""Populations: zoos of models for judging the scanner, and plantings of one recipe.

May import `training.real` and what stands before it.
"""
