"""What is measured and saved while a model trains.

May import `training.backdoors` and what stands before it.
"""
