"""Text that came from a model, a file or a user, made safe to stand in Streamlit's Markdown."""

import re

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])")


def plain(text: str) -> str:
    r"""Escape Markdown, LaTeX, HTML and Streamlit directives; newlines become spaces.

    >>> plain("<b>*x*")
    '\\<b\\>\\*x\\*'
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
