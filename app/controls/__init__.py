"""Controls: the sidebar, pickers, forms.

May import `app.drawing` and what stands before it.
"""
