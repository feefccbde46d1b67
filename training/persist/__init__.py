"""Persistence: training that goes on with a suspect, and what stays of its backdoor meanwhile.

See `interp.surgery.persist` for what is asked and what is said of it.
"""
