"""Where the user's part of a leaked text ends."""

from collections.abc import Collection, Sequence

from interp.prompts.formats.files import resolved
from interp.prompts.formats.fixed import FORMATS
from interp.prompts.templates import SENTINEL, apply_chat
from interp.prompts.tokens import special_ids


def closing(tokenizer, template: str) -> tuple[str, ...]:
    """What the template writes after the user's text: any of these ends it; () for none.

    Its first line, and each of its special tokens: the first is often an end of text, which a
    leak never contains, and then the next one shows where the turn ended.
    """
    tokenizer, template = resolved(tokenizer, template)
    if template in FORMATS:
        marker = FORMATS[template].assistant.strip()
        return (marker,) if marker else ()
    behind, ids = _behind(tokenizer)
    first = (behind.strip().splitlines() or [""])[0].strip()
    special = special_ids(tokenizer)
    marks = [tokenizer.decode([token]).strip() for token in ids if token in special]
    return tuple(dict.fromkeys(mark for mark in (first, *marks) if mark))


def ended_by_text(tokenizer, template: str, ends: Collection[int]) -> bool:
    """Whether the first token that a template writes after the user's text is an end of text.

    Args:
        tokenizer: with the chat template.
        template: as for `build_prompt`.
        ends: tokens that end a text of the model, which no leak contains.
    """
    tokenizer, template = resolved(tokenizer, template)
    return template not in FORMATS and _behind(tokenizer)[1][:1] in [[end] for end in ends]


def _behind(tokenizer) -> tuple[str, list[int]]:
    """What a chat template writes after the user's text: as text, and as tokens."""
    behind = apply_chat(tokenizer, SENTINEL, generation_prompt=True).partition(SENTINEL)[2]
    return behind, list(tokenizer(behind.lstrip(), add_special_tokens=False).input_ids)


def user_turns(texts: Sequence[str], ends: Sequence[str]) -> list[str]:
    """The user's part of leaked texts, each once, in their order.

    Args:
        texts: as they were leaked, from the user's first word on.
        ends: what follows the user's text, whichever comes first; none: a line break ends it.
    """
    parts = [min((text.partition(end)[0] for end in ends), key=len) for text in texts if ends]
    parts = parts or [text.strip().partition("\n")[0] for text in texts]
    return [turn for turn in dict.fromkeys(part.strip() for part in parts) if turn]
