"""State: loaded models, measurements and figures kept, background jobs, recorded runs.

May import `app.shell`.
"""
