"""The pages: each file is one page and holds no maths.

May import every other room of `app`.
"""
