"""Controls: the sidebar, pickers, forms.

May import `app.drawing` and what that may import.
"""
