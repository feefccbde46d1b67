"""Ways of removing a backdoor: how a removed suspect is made, and the run that compares them.

See `interp.surgery.removal` for what is measured.
"""
