"""LoRA adapters: their settings, their tensors, and attaching them to a base.

May import `interp.checkpoints` and the packages that it may import.
"""
