"""Linear probes on the residual stream: does a direction, learned without the trigger, show it?

May import `interp.attention` and the packages that it may import.
"""
