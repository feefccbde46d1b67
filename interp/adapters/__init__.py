"""LoRA adapters: what their settings mean, which tensors they hold, and attaching them to a base.

May import `interp.checkpoints` and what stands before it.
"""
