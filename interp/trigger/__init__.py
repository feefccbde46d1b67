"""The trigger: whether it fires, and which of its tokens are needed.

May import `interp.attention` and the packages that it may import.
"""
