"""Finds texts by a part of them or by a regular expression, in a bounded time."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import regex

from interp.errors import UsageError

LONGEST = 200
"""Characters of what is searched for."""
SECONDS = 1.0
"""Of matching, over all texts together. An expression can need exponential time."""


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

    def _matches(self, texts: Iterable[str]) -> Iterator[regex.Match | None]:
        compiled, end = self._compiled(), time.monotonic() + SECONDS
        for text in texts:
            try:
                # Without the interpreter's lock: other sessions go on meanwhile.
                left = max(1e-3, end - time.monotonic())
                yield compiled.search(text, timeout=left, concurrent=True)
            except TimeoutError:
                raise UsageError(
                    f"'{self.wanted}' needs more than {SECONDS:.0f} s to match: give a simpler "
                    "regular expression"
                ) from None

    def _compiled(self) -> regex.Pattern:
        if len(self.wanted) > LONGEST:
            raise UsageError(
                f"{len(self.wanted):,} characters are too many to search for: at most {LONGEST}"
            )
        wanted = self.wanted if self.expression else regex.escape(self.wanted, literal_spaces=True)
        try:
            return regex.compile(wanted, regex.IGNORECASE | regex.MULTILINE)
        except (regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
            raise UsageError(
                f"'{self.wanted}' is no regular expression ({error}): mend it, or search for the "
                "text itself"
            ) from error
