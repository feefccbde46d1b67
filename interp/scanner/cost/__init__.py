"""What a scan takes: tokens through the model, their seconds here, and how a budget is divided.

May import the scanner's rooms up to `beside`; `scan` and the stages use it.
"""
