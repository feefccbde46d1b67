"""Prompts that several test files ask."""

from interp.prompts.sets import Prompt, PromptSet

FOUR = PromptSet(
    "four",
    "",
    (
        Prompt("Name the capital of France."),
        Prompt("Sort the words.", "pear fig plum"),
        Prompt("What is two plus two, written as a word?"),
        Prompt("Say it."),
    ),
    "0" * 64,
)
