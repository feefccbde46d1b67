"""Types of the gallery: a figure with its title, caption and data, and a kind of run.

To add a kind, add an entry to `KINDS`. Nothing here needs a model.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pandas as pd
import plotly.graph_objects as go

from interp.figures import operation
from interp.runs.reading import Run
from interp.style import scales
from interp.style.presets import Style

ROWS = 20
"""Most rows of a printed table."""


@dataclass(frozen=True)
class FigureEntry:
    """One figure that is drawn on demand."""

    name: str
    """File name without ending."""
    title: str
    caption: str
    """What it shows; `full_caption` adds scales and provenance."""
    table: Callable[[], pd.DataFrame]
    """Makes its tidy data."""
    draw: Callable[[], go.Figure]
    """Draws it as on its page."""
    fit: Callable[[Style], dict[str, go.Figure]] | None = None
    """Lays it out for a style's size, as one or more figures; None if `draw` is enough."""


@dataclass(frozen=True)
class Kind:
    """The figures, tables and sentences of one kind of run."""

    title: str
    figures: Callable[[Run], list[FigureEntry]]
    tables: Callable[[Run], dict[str, pd.DataFrame]]
    """Tables for print: a few rows and columns, not all data."""
    command: Callable[[Run], str]
    """The command line that reproduces a run, finished or not."""
    words: Callable[[Run], list[str]] = lambda run: []
    """The findings in sentences: the first paragraphs of a report."""


def enlarged(shown: FigureEntry) -> FigureEntry:
    """The entry in the lesson's large type size."""
    return replace(shown, draw=lambda: operation.large(shown.draw()))


def full_caption(caption: str, figures: Iterable[go.Figure], provenance: str) -> str:
    """What a figure shows, its scales and its provenance.

    Args:
        caption: what the figure shows, from its entry.
        figures: the figure, or its parts if it is split.
        provenance: `provenance.sentence` of a run, or `provenance.sentence_of` results without one.
    """
    parts = caption.strip(), scales.sentence(list(figures)), provenance
    return " ".join(part for part in parts if part)
