"""Text from a model, a file or a user, made safe for Streamlit's Markdown."""

import html
import re
from collections.abc import Iterable

from interp.text import visible

_LINKED = re.compile(
    r"(?i)(?<=https:)(?=//)|(?<=http:)(?=//)|(?<=www)(?=\.)|(?<=[-.\w+]@)(?=[-\w]+\.)"
)
"""Places for a word joiner, so that Markdown does not turn an address into a link."""
_WORD = re.compile(r"[a-z]+[ ,:]")
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])")


def plain(text: str) -> str:
    r"""Escape Markdown, LaTeX, HTML and Streamlit directives; newlines become spaces.

    An address does not become a link, although Markdown finds addresses in escaped text too.

    Invisible characters and those that reverse text direction are shown as their codes.

    >>> plain("<b>*x*")
    '\\<b\\>\\*x\\*'
    """
    shown = _LINKED.sub("\u2060", visible(" ".join(text.split())))
    return _MARKUP.sub(r"\\\1", shown)


def begun(message: str) -> str:
    """A message as a sentence begins; a name or path in front stays as it is spelt.

    >>> begun("the trigger is blank"), begun("my-run/one is cut off")
    ('The trigger is blank', 'my-run/one is cut off')
    """
    return message[:1].upper() + message[1:] if _WORD.match(message) else message


def marked(text: str, needles: Iterable[str]) -> str:
    """Untrusted text as escaped HTML with the needles highlighted.

    All text is escaped. Invisible characters and those that reverse text direction are shown as
    their codes. The only tags are our own `<mark>`.

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
