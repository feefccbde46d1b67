"""Naming a pair that is none of the presets.

May import `app.shell`, `app.state` and `app.drawing`.
"""
