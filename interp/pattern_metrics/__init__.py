"""Metrics of one head's attention pattern, suspect beside original, one file each.

May import nothing of `interp` but its own files; light, so that pages can list them before torch.
"""
