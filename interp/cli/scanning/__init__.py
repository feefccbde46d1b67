"""The commands of the scanner: a whole scan with its report, and an adapter's weights alone.

May import everything in `interp`, as the other commands.
"""
