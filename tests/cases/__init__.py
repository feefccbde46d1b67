"""Situations that fooled this product or tools like it, built small, each against a reference.

`python -m tests.cases` builds every one and prints the outcome; `test_cases.py` runs
the same list. A case returns one line: the distance of the result from plain transformers and
peft, or the message with which the input was refused. Anything else is an AssertionError.
"""
