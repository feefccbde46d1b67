"""Does a model have an unknown backdoor? From leakage to a verdict, stage by stage.

May import everything up to `interp.surgery`; its rooms in order: judge, leak, search, cost, stages.
"""
