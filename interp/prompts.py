"""Prompts: sets of them, templates, tokens with spans, batches, and the random-string control.

One door to five small modules, so that whoever measures imports one name:
`promptsets` (what is asked) -> `templates` (the text, and where its parts stand) -> `tokens`
(which characters a token stands for) -> `spans` (which tokens are the trigger's) -> `controls`
and `batching`.
"""

from interp.batching import Batch, batches, left_padded, position_ids
from interp.controls import random_strings, random_trigger
from interp.promptsets import Prompt, PromptSet, Typed, load_prompt_set, prompt_set_names
from interp.spans import Span, TokenizedPrompt, build_prompt, continuation, typed_place
from interp.templates import PLACEMENTS, TEMPLATES
from interp.tokens import display_token

__all__ = [
    "PLACEMENTS",
    "TEMPLATES",
    "Batch",
    "Prompt",
    "PromptSet",
    "Span",
    "TokenizedPrompt",
    "Typed",
    "batches",
    "build_prompt",
    "continuation",
    "display_token",
    "left_padded",
    "load_prompt_set",
    "position_ids",
    "prompt_set_names",
    "random_strings",
    "random_trigger",
    "typed_place",
]
