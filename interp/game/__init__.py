"""The game "Which one is poisoned?": rounds by number, and the models behind the letters.

May import what measures, and the scanner's recorded runs.
"""
