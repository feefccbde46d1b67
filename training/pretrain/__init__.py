"""Pretraining the organisms, and their cards.

May import `training.corpus`.
"""
