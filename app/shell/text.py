"""Text that came from a model, a file or a user, made safe to stand in Streamlit's Markdown."""

import html
import re
from collections.abc import Iterable

from interp.text import visible

_LINKED = re.compile(
    r"(?i)(?<=https:)(?=//)|(?<=http:)(?=//)|(?<=www)(?=\.)|(?<=[-.\w+]@)(?=[-\w]+\.)"
)
"""Where a word joiner keeps an address, which Markdown would make a link, from being one."""
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])")


def plain(text: str) -> str:
    r"""Escape Markdown, LaTeX, HTML and Streamlit directives; newlines become spaces.

    An address is no link: Markdown finds those in text that is escaped, too.

    What would not be seen, or would turn the line around, is shown as its code.

    >>> plain("<b>*x*")
    '\\<b\\>\\*x\\*'
    """
    shown = _LINKED.sub("\u2060", visible(" ".join(text.split())))
    return _MARKUP.sub(r"\\\1", shown)


def marked(text: str, needles: Iterable[str]) -> str:
    """Foreign text as HTML that is nothing but text, the needles in it highlighted.

    Every character of the text is escaped, and what would not be seen or would turn the line
    around is shown as its code; the only tags are our own `<mark>`.

    >>> marked("<b>hi", ["hi"])
    '&lt;b&gt;<mark>hi</mark>'
    """
    found = [re.escape(needle) for needle in sorted(set(needles), key=len, reverse=True) if needle]
    if not found:
        return _as_html(text)
    pieces = re.split(f"({'|'.join(found)})", text)
    return "".join(
        f"<mark>{_as_html(piece)}</mark>" if number % 2 else _as_html(piece)
        for number, piece in enumerate(pieces)
    )


def _as_html(text: str) -> str:
    return html.escape(visible(text, keep="\n"))
