"""Views that the reader keeps from any page, to be set and printed on the page Figures.

They are kept in the session, with all that they are drawn from: until the browser's tab is closed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode, urlsplit

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from interp.publish.naming import About, in_words
from interp.style.presets import Style, lettered

MOST = 24
"""Most views of one session; each holds its figure and its data in memory."""
_KEY = "kept-views"


@dataclass(frozen=True)
class View:
    """A figure as it stands on a page, with all that printing it needs."""

    name: str
    """File name without ending, and the key of its widgets."""
    title: str
    figure: go.Figure
    told: Callable[[Iterable[go.Figure]], str]
    """The caption of the figure, or of the parts that a style split it into."""
    table: Callable[[], pd.DataFrame]
    command: str
    about: About = field(default_factory=dict)
    fit: Callable[[Style], dict[str, go.Figure]] | None = None
    """Lays it out for a style's size; None if it is only styled."""
    address: str = ""
    """Link to the page that shows it, from the server's root."""

    def set_in(self, style: Style) -> dict[str, go.Figure]:
        """File name without ending -> figure in a style; a split figure gives several."""
        parts = {"": self.figure} if self.fit is None else self.fit(style)
        return {
            f"{self.name}-{style.name}-{part}".strip("-"): figure
            for part, figure in lettered(parts, style).items()
        }

    @property
    def label(self) -> str:
        """Title and what it is of."""
        return f"{self.title} ({in_words(self.about)})" if self.about else self.title

    @property
    def _identity(self) -> tuple[str, str, str]:
        return self.name, self.command, self.address


def views() -> list[View]:
    """The views that are kept, the oldest first."""
    return st.session_state.setdefault(_KEY, [])


def keep(view: View) -> None:
    """Keep a view with the address of the page that shows it; for a button's `on_click`."""
    view = replace(view, address=_address())
    if any(one._identity == view._identity for one in views()):
        st.toast("It is kept already: see the page Figures.", icon=":material/bookmark_added:")
    elif len(views()) >= MOST:
        st.toast(
            f"{MOST} views are kept, and that is all there is room for: remove one on Figures.",
            icon=":material/bookmark_remove:",
        )
    else:
        rows = view.table()
        views().append(replace(view, table=lambda: rows))
        st.toast("Kept: see the page Figures.", icon=":material/bookmark_added:")


def remove(view: View) -> None:
    """Keep a view no longer; for a button's `on_click`."""
    st.session_state[_KEY] = [one for one in views() if one is not view]


def _address() -> str:
    pairs = [(key, value) for key in st.query_params for value in st.query_params.get_all(key)]
    return f"{urlsplit(st.context.url or '').path or '/'}?{urlencode(pairs)}"
