"""Every figure and table of a run, whatever its kind: for the CLI, the Figures page and reports.

A kind is added by its entry in `KINDS`. Nothing here needs a model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from interp.runs.reading import Run
from interp.style.presets import Style

ROWS = 20
"""Of a printed table."""


@dataclass(frozen=True)
class Shown:
    """One figure of a run, not drawn yet."""

    name: str
    """Of its files."""
    title: str
    caption: str
    """What it shows; `captioned` adds its scales and where it comes from."""
    table: Callable[[], pd.DataFrame]
    """The tidy data behind it."""
    draw: Callable[[], go.Figure]
    """As on its page."""
    fit: Callable[[Style], dict[str, go.Figure]] | None = None
    """Laid out anew for a style's size, as one figure or several; None if `draw` will do."""


@dataclass(frozen=True)
class Kind:
    """What can be shown of one kind of run."""

    title: str
    figures: Callable[[Run], list[Shown]]
    tables: Callable[[Run], dict[str, pd.DataFrame]]
    """For print: a few rows and columns, not the whole data."""
    words: Callable[[Run], list[str]] = lambda run: []
    """What was found, in sentences; the first paragraphs of a report."""
