"""Gallery: which figures and tables each kind of run has, with titles and captions.

May import `interp.figures` and the rooms that measure; used by pages, commands and reports alike.
"""
