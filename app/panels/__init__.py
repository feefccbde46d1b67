"""Panels: the parts of pages that show one kind of result.

May import `app.controls` and what that may import.
"""
