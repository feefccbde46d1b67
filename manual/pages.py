"""The pages of the manual, laid out as in the repository, so that their links hold."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from interp.specs import HERE

FIRST = (
    "README.md",
    "CHANGELOG.md",
    *sorted(f"docs/{p.name}" for p in (HERE / "docs").glob("*.md")),
)
"""Pages, relative to the repository; what they link to comes with them."""
LINK = re.compile(r"\]\(([^)\s#]+)")
SOURCE = re.compile(r"<!--.*?-->", re.DOTALL)
"""Where a traced number comes from: of no use to a reader of the site."""


def lay_out(into: Path) -> list[Path]:
    """Copy every page and every file that one links to.

    A link that leads nowhere is left for mkdocs to find.

    Args:
        into: an empty folder.

    Returns:
        What was copied, relative to `into`.
    """
    waiting, done = [HERE / name for name in FIRST], []
    while waiting:
        file = waiting.pop()
        place = file.relative_to(HERE)
        if place in done:
            continue
        done.append(place)
        (into / place).parent.mkdir(parents=True, exist_ok=True)
        if file.suffix != ".md":
            shutil.copyfile(file, into / place)
            continue
        text = file.read_text(encoding="utf-8")
        (into / place).write_text(SOURCE.sub("", text), encoding="utf-8")
        waiting += linked(file, text)
    return done


def linked(page: Path, text: str) -> Iterator[Path]:
    """Files of the repository that a page links to."""
    for target in LINK.findall(text):
        file = (page.parent / target).resolve()
        if "://" not in target and file.is_relative_to(HERE) and file.is_file():
            yield file
