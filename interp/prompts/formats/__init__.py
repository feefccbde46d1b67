"""The formats of a prompt: those with a name, and files with a chat template.

May import: `interp.errors`, `interp.prompts.alpaca`.
"""
