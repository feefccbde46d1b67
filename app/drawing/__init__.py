"""Drawing: a figure or table on a page, with its downloads.

May import `app.shell` and `app.state`.
"""
