"""Publishing: images, tables, HTML reports, comparisons, folders for a write-up.

May import `interp.gallery` and what that may import.
"""
