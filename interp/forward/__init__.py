"""Forward passes: reading attention, lending a prefix, greedy answers, activation of a target.

May import `interp.models`, `interp.prompts` and what stands before them.
"""
