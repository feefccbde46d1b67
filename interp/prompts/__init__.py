"""Prompts: sets of them, templates, tokens with spans, conversations, batches, random strings.

May import the plain modules of `interp` (errors, text, specs and the like) and nothing else.
"""
