"""Prompts: sets of them, templates, tokens with spans, conversations, batches, random strings.

May import only the modules directly in `interp` (errors, text, specs and so on).
"""
