"""The scanner's judgement: similarity of answers, unsafe code, chat templates, the verdict.

May import what stands before the scanner.
"""
