"""Text made safe to show: invisible characters as signs, long text cut."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from html import escape

VISIBLE = {" ": "·", "▁": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}


JOINERS = "\u200c\u200d\ufe0e\ufe0f"
"""Invisible by design inside an emoji or a word."""


def display_token(text: str) -> str:
    """A token's text made visible: `·` for a space, `⏎` for a line break, `<U+200B>` and such.

    Direction overrides, control characters and lone joiners are written as code points, lone
    combining marks on a dotted circle, so that a label never disturbs its neighbours.
    """
    alone = len(text) == 1
    marked = "◌" + text if text and unicodedata.category(text[0]).startswith("M") else text
    return "".join(_visible(character, alone) for character in marked)


_kept_display = lru_cache(2**14)(display_token)
"""Of single tokens, which come again in every prompt of a set."""


def label(text: str, length: int = 28) -> str:
    """Foreign text as a figure's label: one line, every character visible, no markup.

    >>> label("<b>a")
    '&lt;b&gt;a'
    """
    visible = " ".join(map(display_token, text.split(" ")))
    visible = visible if len(visible) <= length else visible[: length - 1] + "…"
    if any(unicodedata.bidirectional(c) in ("R", "AL") for c in visible):
        visible = f"\u2068{visible}\u2069"  # or it would turn the words beside it around
    return escape(visible, quote=False)


def _visible(character: str, alone: bool) -> str:
    if character in VISIBLE:
        return VISIBLE[character]
    if character in JOINERS and not alone:
        return character
    if unicodedata.category(character)[0] in "CZ":
        return f"<U+{ord(character):04X}>"
    return character


def _piece(piece: str) -> str:
    """A vocabulary entry that is no whole character: `<0xF0>` for each stray byte."""
    table = _byte_of()
    if not all(character in table for character in piece):
        return display_token(piece)
    text = bytes(table[character] for character in piece).decode("utf-8", "surrogateescape")
    return "".join(
        f"<0x{ord(c) - 0xDC00:02X}>" if "\udc80" <= c <= "\udcff" else display_token(c)
        for c in text
    )


@lru_cache(maxsize=1)
def _byte_of() -> dict[str, int]:
    """Byte-level BPE's alphabet (Radford et al. 2019): printable bytes stand for themselves."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {chr(b): b for b in kept} | {chr(256 + i): b for i, b in enumerate(moved)}
