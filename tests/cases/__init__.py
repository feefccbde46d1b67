"""Situations that fooled this product or tools like it, built small, each against a reference.

`python -m tests.cases` builds every one and prints what came of it; `test_cases.py` runs
the same list. A case returns one line: how far the result is from plain transformers and peft, or
the one line with which the input was refused. Anything else is an AssertionError.
"""
