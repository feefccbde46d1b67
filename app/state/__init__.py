"""State: loaded models, cached measurements and figures, background jobs, recorded runs.

May import `app.shell`.
"""
