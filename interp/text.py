"""Makes text safe to display: invisible characters become visible signs, long text is cut."""

import re
import unicodedata
from functools import lru_cache
from html import escape

SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍"}
SPACES = {" ": "·", "▁": "·"}
"""In a single token a space is easily missed."""
JOINERS = "\u200c\u200d\ufe0e\ufe0f"
"""Invisible by design inside an emoji or a word."""
_SYMBOL = re.compile(r"\b([LSΔ])_(attn|agg|rel)\b")
_SUBSCRIPT, _TAG = re.compile(r"<sub>(\w+)</sub>"), re.compile(r"<[^>]*>")


def display_token(text: str) -> str:
    """A token's text made visible: `·` for a space, `⏎` for a line break, `<U+200B>` etc.

    Direction overrides, control characters and lone joiners are written as code points, and lone
    combining marks on a dotted circle, so that a label never affects the text around it.
    """
    alone = len(text) == 1
    marked = "◌" + text if text and unicodedata.category(text[0]).startswith("M") else text
    return "".join(_visible_in_token(character, alone) for character in marked)


cached_display = lru_cache(2**14)(display_token)
"""Of single tokens, which come again in every prompt of a set."""


def visible(text: str, *, keep: str = "") -> str:
    r"""Untrusted text on one line: line breaks as signs, invisible characters as code points.

    Spaces stay. No character remains that breaks a line, reverses it or controls a terminal.

    Args:
        text: any text.
        keep: characters to leave unchanged.

    >>> visible("a\tb")
    'a⇥b'
    """
    if text.isascii() and text.isprintable():  # most text, and the loop is slow
        return text
    return "".join(c if c in keep else SIGNS.get(c) or _as_code(c) for c in text)


def label(text: str, length: int = 28) -> str:
    """Untrusted text as a figure label: one line, every character visible, no markup.

    >>> label("<b>a")
    '&lt;b&gt;a'
    """
    shown = " ".join(map(display_token, text.split(" ")))
    shown = shown if len(shown) <= length else shown[: length - 1] + "…"
    if any(unicodedata.bidirectional(c) in ("R", "AL") for c in shown):
        shown = f"\u2068{shown}\u2069"  # else it would reverse the text around it
    return escape(shown, quote=False)


def subscripts(text: str) -> str:
    """Our own text for a figure: `L_attn`, `Δ_rel` and `S_agg` are set with a subscript.

    >>> subscripts("Δ_rel, random string")
    'Δ<sub>rel</sub>, random string'
    """
    return _SYMBOL.sub(r"\1<sub>\2</sub>", text)


def unmarked(text: str) -> str:
    """Text of a figure as plain text: subscripts as `L_attn`, other tags as blanks.

    >>> unmarked("Δ<sub>rel</sub><br>of every head")
    'Δ_rel of every head'
    """
    return " ".join(_TAG.sub(" ", _SUBSCRIPT.sub(r"_\1", text)).split())


def _visible_in_token(character: str, alone: bool) -> str:
    if character in JOINERS and not alone:
        return character
    if character in SPACES:
        return SPACES[character]
    return SIGNS.get(character) or _as_code(character, of=("C", "Z"))


def _as_code(character: str, of: tuple[str, ...] = ("C", "Zl", "Zp")) -> str:
    """`<U+200B>` for a character of these Unicode categories, else the character."""
    unseen = unicodedata.category(character).startswith(of)
    return f"<U+{ord(character):04X}>" if unseen else character


def display_piece(piece: str) -> str:
    """A vocabulary entry that is not a whole character: `<0xF0>` for each stray byte."""
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
    """Alphabet of byte-level BPE (Radford et al. 2019); printable bytes map to themselves."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {chr(b): b for b in kept} | {chr(256 + i): b for i, b in enumerate(moved)}
