"""The game "Which one is poisoned?": rounds by number, and the models behind the letters."""
