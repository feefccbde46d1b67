"""Planting a backdoor: small models here, large ones with QLoRA, with the memory it takes.

May import `training.recording` and what stands before it.
"""
