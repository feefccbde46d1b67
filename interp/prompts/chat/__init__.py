"""Renders chat templates, which are code by a model's author, in a process of their own.

May import the plain modules of `interp`; knows no tokenizer.
"""
