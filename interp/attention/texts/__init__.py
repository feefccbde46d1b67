"""Attention on the text: of each token to each token, and in a sentence whose trigger moves.

May import `interp.attention` and the packages that it may import.
"""
