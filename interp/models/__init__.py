"""Models in memory: planning and loading a pair, and one slot for the loaded pair.

May import `interp.checkpoints`, `interp.adapters` and `interp.prompts`; measures nothing.
"""
