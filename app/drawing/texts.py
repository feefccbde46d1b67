"""Search and filter over a table of texts: by words, by fired or not, by setting."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.drawing import widgets
from app.shell import links
from app.shell.text import plain
from interp.runs.shelf.searching import LONGEST, Search

EVERY, FIRED, NOT_FIRED = "all", "fired", "not fired"
ALL = "all settings"


@dataclass(frozen=True)
class Found:
    """The rows that search and filters leave."""

    rows: pd.DataFrame
    search: Search

    def parts(self, texts: Sequence[str]) -> set[str]:
        """What was found in these texts, to be highlighted."""
        return self.search.parts(texts)


def found(
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    key: str,
    what: str,
    fired: str | None = None,
    setting: str | None = None,
    of: str | None = None,
) -> Found:
    """Draw search, filters, count and a CSV of what is left; returns the rows that are left.

    Args:
        table: tidy, one row per text.
        columns: columns that are searched.
        key: part of the controls' keys, in the link too.
        what: what a row is, in the plural.
        fired: column that says whether an answer fired, if there is one.
        setting: column of the setting that a text was made with, if there is one.
        of: what the settings belong to, as in `links.bound`.

    Raises:
        UsageError: what is searched for is too long, no regular expression, or takes too long.
    """
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = _search(key, what)
        left = table
        if fired is not None:
            chosen = links.bound(
                st.segmented_control,
                "Fired",
                [EVERY, FIRED, NOT_FIRED],
                default=EVERY,
                required=True,
                key=f"{key}-fired",
                width="content",
            )
            left = left if chosen == EVERY else left[left[fired] == (chosen == FIRED)]
        names = [] if setting is None else sorted(map(str, table[setting].unique()))
        if len(names) > 1:
            chosen = links.bound(
                st.selectbox, "Setting", [ALL, *names], key=f"{key}-setting", of=of, width=220
            )
            left = left if chosen == ALL else left[left[setting].astype(str) == chosen]
    if search.wanted:
        rows = left[list(columns)].fillna("").itertuples(index=False)
        joined = ["\n".join(map(str, row)) for row in rows]
        left = left[pd.Series(search.holds(joined), index=left.index, dtype=bool)]
    with st.container(horizontal=True, vertical_alignment="center"):
        told = f"{len(left)} of {len(table)} {what}"
        if fired is not None:
            told += f", {int(left[fired].sum())} of them fired"
        st.caption(plain(f"{told}."), width="content")
        widgets.csv_button(key, lambda: left, what=f"These {len(left)} {what}.")
    return Found(left, search)


def _search(key: str, what: str) -> Search:
    words = links.bound_text(
        "Find",
        key=f"{key}-find",
        placeholder=f"a part of the {what}, upper or lower case",
        max_chars=LONGEST,
        width=360,
    )
    expression = links.bound(
        st.toggle,
        "Regular expression",
        key=f"{key}-regex",
        help="For example `^I HATE|unsafe_\\w+`. In Python's notation; "
        "^ and $ are the ends of a line.",
    )
    return Search(words, expression)
