"""The pair: naming one that is none of the presets, and the dial of its adapter.

May import `app.shell`, `app.state` and `app.drawing`.
"""
