"""Figures: tables in, Plotly figures out.

May import `interp.style`, the words of `interp.runs` and the plain modules; no module here
measures or opens a model.
"""
