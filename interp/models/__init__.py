"""Models in memory: what a pair will take, loading it, one slot for the loaded pair.

May import `interp.checkpoints`, `interp.adapters` and `interp.prompts`; measures nothing.
"""
