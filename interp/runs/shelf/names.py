"""What a run may be called when a person or an upload names it."""

import re

from interp.errors import UsageError
from interp.text import visible

LONGEST, MOST_BYTES = 80, 200
"""Characters; and bytes in UTF-8, since folders of most systems take 255."""
_NAME = re.compile(r"\w[\w .+-]*")


def checked_name(name: str) -> str:
    """The name, if it is a plain name for a folder everywhere.

    Letters and digits of any script, spaces, `.`, `+`, `-` and `_`; it begins with a letter, a
    digit or `_`, and ends with no space or full stop.

    Raises:
        UsageError: it is none.
    """
    whole = _NAME.fullmatch(name) and name[-1] not in " ."
    if not whole or len(name) > LONGEST or len(name.encode("utf-8", "replace")) > MOST_BYTES:
        raise UsageError(
            f"'{short(name)}' is no run's name: give letters, digits, spaces and . + - _, at most "
            f"{LONGEST} characters, a letter or digit first"
        )
    return name


def free_name(name: str, taken: set[str]) -> str:
    """The name, or the first of `name-2`, `name-3`, ... that is not taken.

    Raises:
        UsageError: the name is none, or leaves no room for a number.
    """
    number, free = 1, checked_name(name)
    while free in taken:
        number += 1
        free = checked_name(f"{name}-{number}")
    return free


def short(text: str) -> str:
    """Foreign text for a one-line message: every character visible, cut."""
    shown = visible(text)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
