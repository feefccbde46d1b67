"""Surgery: the suspect without some of its heads, and the search for the fewest of them.

May import `interp.causal` and the packages that it may import.
"""
