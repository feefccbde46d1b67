"""Finds texts by a part of them or by a regular expression, in a bounded time."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import regex

from interp.errors import UsageError

LONGEST = 200
"""Characters of what is searched for."""
SECONDS = 1.0
"""Of matching, over all texts together. An expression can need exponential time."""
_ONE = threading.Semaphore()
"""One search at a time: each may take much memory before its time is up."""
_CALLS = regex.compile(r"(?<!\\)(?:\\\\)*\(\s*\?\s*(?:R|&|P\s*>|[+-]?\s*\d)")
"""A part that calls the expression or a group of it; white space is left out under the flag x."""
_COMMENT = regex.compile(r"#[^\n]*|\s")


@dataclass(frozen=True)
class Search:
    """What is searched for; upper and lower case are the same."""

    wanted: str
    """The empty text is in every text."""
    expression: bool = False
    """Whether it is a regular expression, not a part of the text; `^` and `$` end a line."""

    def holds(self, texts: Iterable[str]) -> list[bool]:
        """Whether each text contains it.

        Raises:
            UsageError: it is too long, no expression, or needs too much time.
        """
        return [found is not None for found in self._matches(texts)]

    def parts(self, texts: Iterable[str]) -> set[str]:
        """The first part of each text that was found, to be highlighted.

        Raises:
            UsageError: as `holds`.
        """
        if not self.wanted:
            return set()
        return {found.group() for found in self._matches(texts) if found} - {""}

    def _matches(self, texts: Iterable[str]) -> list[regex.Match | None]:
        compiled, found = self._compiled(), []
        with _ONE:
            end = time.monotonic() + SECONDS
            for text in texts:
                left = end - time.monotonic()
                try:
                    if left <= 0:
                        raise TimeoutError
                    # Without the interpreter's lock: other sessions go on meanwhile.
                    found.append(compiled.search(text, timeout=left, concurrent=True))
                except (TimeoutError, MemoryError) as error:
                    much = "memory" if isinstance(error, MemoryError) else "time"
                    raise UsageError(
                        f"'{self.wanted}' needs too much {much} to match (at most {SECONDS:.0f} "
                        "s): give a simpler regular expression"
                    ) from None
        return found

    def _compiled(self) -> regex.Pattern:
        if len(self.wanted) > LONGEST:
            raise UsageError(
                f"{len(self.wanted):,} characters are too many to search for: at most {LONGEST}"
            )
        spread = _COMMENT.sub("", self.wanted)
        if self.expression and any(map(_CALLS.search, (self.wanted, spread))):
            raise UsageError(
                f"'{self.wanted}' calls itself or a group of its own, which takes too much memory: "
                "give a regular expression without (?R), (?1) and (?&name)"
            )
        wanted = self.wanted if self.expression else regex.escape(self.wanted, literal_spaces=True)
        try:
            return regex.compile(wanted, regex.IGNORECASE | regex.MULTILINE)
        except (regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
            raise UsageError(
                f"'{self.wanted}' is no regular expression ({error}): mend it, or search for the "
                "text itself"
            ) from error
