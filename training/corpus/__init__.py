"""The synthetic corpus: words, families of tasks, tags, tokenizer.

May import `interp`; no other room of `training`.
"""
