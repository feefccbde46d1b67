"""Search for triggers and targets: frames, losses, candidates, gradient search.

May import `interp.scanner.leak` and what stands before it.
"""
