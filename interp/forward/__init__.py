"""Forward passes: whole patterns, prompts by condition, greedy answers, activation rates.

May import `interp.models`, `interp.prompts` and the packages that those may import.
"""
