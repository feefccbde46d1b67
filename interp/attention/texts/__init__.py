"""Attention on the text: of each token to each token, and in a sentence whose trigger moves."""
