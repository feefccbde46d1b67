"""Around the pages: access, limits, failures, links, what all sessions share.

May import `interp` and Streamlit; no other package of `app`.
"""
