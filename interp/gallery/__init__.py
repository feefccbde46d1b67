"""Gallery: which figures and tables each kind of run has, with titles and captions.

May import `interp.figures` and the packages that measure. Pages, commands and reports use it.
"""
