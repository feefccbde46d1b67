"""What an entry of the gallery is: a figure with its title, caption and data; a kind of run.

A kind is added by its entry in `KINDS`. Nothing here needs a model.
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
"""Of a printed table."""


@dataclass(frozen=True)
class FigureEntry:
    """One figure, not drawn yet."""

    name: str
    """Of its files."""
    title: str
    caption: str
    """What it shows; `full_caption` adds its scales and where it comes from."""
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
    figures: Callable[[Run], list[FigureEntry]]
    tables: Callable[[Run], dict[str, pd.DataFrame]]
    """For print: a few rows and columns, not the whole data."""
    command: Callable[[Run], str]
    """The command line that makes a run again, finished or not."""
    words: Callable[[Run], list[str]] = lambda run: []
    """What was found, in sentences; the first paragraphs of a report."""


def enlarged(shown: FigureEntry) -> FigureEntry:
    """The entry in the lesson's large type."""
    return replace(shown, draw=lambda: operation.large(shown.draw()))


def full_caption(caption: str, figures: Iterable[go.Figure], provenance: str) -> str:
    """What a figure shows, the scales that it is drawn with, and where it comes from.

    Args:
        caption: of its entry.
        figures: the figure, or the parts that it is drawn in.
        provenance: `provenance.sentence` of its run, or `sentence_of` what was measured.
    """
    parts = caption.strip(), scales.sentence(list(figures)), provenance
    return " ".join(part for part in parts if part)
